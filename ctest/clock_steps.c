/* The wall clock steps by hours, days and years, and signals interrupt whatever waits: what ends by
 * time ends by the monotonic clock, and nothing else minds. Only the time stamps of records follow
 * the wall. */
#include "support.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

/* Whoever waited by the wall would be late by at least 900 s; less is this machine's own delay. */
enum { RECORDS = 3000, SLACK_MS = 30000 };

/* Brokers refuse records that are an hour early: while some are to be taken, less is the most. */
static const long long steps[] = {0, 900, -900, 1700, -1700, 1};
enum { STEPS = sizeof steps / sizeof *steps, YEARS = 20000 };
static atomic_size_t step;
static atomic_llong scale = 1;
static atomic_ulong wall_readings, signals, signals_of_the_library;

/* What every reading of time in this process goes through, the library's too. */
int clock_gettime(clockid_t clock, struct timespec *now) {
  long result = syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    atomic_fetch_add(&wall_readings, 1);
    now->tv_sec += (time_t)(steps[atomic_load(&step) % STEPS] * atomic_load(&scale));
  }
  return (int)result;
}

static void on_alarm(int number) {
  (void)number;
  atomic_fetch_add(&signals, 1);
  atomic_fetch_add(&step, 1);
}

static void on_other(int number) {
  (void)number;
  atomic_fetch_add(&signals_of_the_library, 1);
}

/* The timer's signals go to the main thread: one after the other each of the library's threads gets
 * signals of its own. */
static void *disturb_the_library(void *on) {
  while (atomic_load((atomic_int *)on)) {
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks);
    for (struct dirent *task; (task = readdir(tasks));) {
      char path[300], name[32] = "";
      snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
      FILE *file = fopen(path, "r");
      if (!file) continue;
      bool ours = fgets(name, sizeof name, file) && strncmp(name, "kafka-", 6) == 0;
      fclose(file);
      /* It may have ended meanwhile. */
      if (ours) syscall(SYS_tgkill, getpid(), atoi(task->d_name), SIGUSR1);
    }
    closedir(tasks);
    sleep_ms(1);
  }
  return NULL;
}

/* A signal per millisecond; without SA_RESTART, so that system calls end with EINTR. */
static void disturb(bool on) {
  struct sigaction action = {.sa_handler = on_alarm}, other = {.sa_handler = on_other};
  CHECK_EQ(0, sigaction(SIGUSR1, &other, NULL));
  struct itimerval every = {{0, on ? 1000 : 0}, {0, on ? 1000 : 0}};
  CHECK_EQ(0, sigaction(SIGALRM, &action, NULL));
  CHECK_EQ(0, setitimer(ITIMER_REAL, &every, NULL));
}

/* A call that ends by time; deadlines of records are kept within 20 ms. */
#define CHECK_LASTS(ms, early_ms, call) \
  do { \
    int64_t begin_ = now_ms(); \
    call; \
    int64_t took_ = now_ms() - begin_; \
    if (took_ < (ms) - (early_ms) || took_ > (ms) + SLACK_MS) \
      FAIL("%s took %lld ms, not %d", #call, (long long)took_, (ms)); \
  } while (0)

/* Nothing is answered: every wait lasts as long as it was told. What a frozen broker has got it
 * still writes when it goes on: the topic is these waits' own. */
static void waits(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  ledger_t ledger;
  ledger_init(&ledger, 1);
  producer_config_t *config = config_for(cluster);
  set_key(config, "max.block.ms", "300");
  set_key(config, "linger.ms", "0");
  producer_config_t *short_lived = producer_config_clone(config);
  set_key(short_lived, "request.timeout.ms", "700");
  set_key(short_lived, "delivery.timeout.ms", "800");
  producer_config_set_delivery_callback(short_lived, ledger_callback, &ledger);
  producer_t *producer = start(config), *expires = start(short_lived);
  producer_record_t record = {.topic = producer_str("waits"), .value = producer_str("x")};
  size_t count;
  CHECK_OK(producer_partitions_for(producer, record.topic, NULL, 0, LONG_MS, &count, &error));
  CHECK_OK(producer_partitions_for(expires, record.topic, NULL, 0, LONG_MS, &count, &error));
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, true, true, 0, 0));
  producer_record_t unknown = {.topic = producer_str("never-answered")};
  CHECK_LASTS(300, 0, CHECK_FAILS(PRODUCER_ERR_TIMED_OUT,
                                  producer_send(producer, &unknown, &error)));
  producer_receipt_t receipt;
  CHECK_LASTS(300, 20,
              CHECK_FAILS(PRODUCER_ERR_DELIVERY_TIMED_OUT,
                          producer_send_sync(producer, &record, 300, &receipt, &error)));
  CHECK_OK(producer_send(producer, &record, &error));
  CHECK_LASTS(300, 0, CHECK_FAILS(PRODUCER_ERR_TIMED_OUT, producer_flush(producer, 300, &error)));
  CHECK_LASTS(800, 20, {
    CHECK_OK(producer_send(expires, &record, &error));
    CHECK_OK(producer_flush(expires, LONG_MS, &error));
  });
  CHECK_LEDGER(&ledger, 1);
  CHECK_EQ(PRODUCER_ERR_DELIVERY_TIMED_OUT, ledger.last_failure);
  uint64_t aborted = 0;
  CHECK_LASTS(300, 0, CHECK_OK(producer_close(producer, 300, &aborted, &error)));
  CHECK_EQ(1, aborted);
  CHECK_OK(producer_close(expires, LONG_MS, NULL, &error));
  producer_free(producer);
  producer_free(expires);
  ledger_free(&ledger);
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, true, false, 0, 0));
}

/* Records flow: each arrives once, and has the time that the wall showed. */
static void flows(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  ledger_t ledger;
  ledger_init(&ledger, RECORDS);
  producer_config_t *config = config_for(cluster);
  producer_config_set_delivery_callback(config, ledger_callback, &ledger);
  producer_t *producer = start(config);
  struct timespec real;
  CHECK_EQ(0, syscall(SYS_clock_gettime, CLOCK_REALTIME, &real));
  int64_t first = producer_mock_cluster_end_offset(cluster, producer_str("t"), 0);
  for (uint64_t tag = 0; tag < RECORDS; tag++) {
    producer_record_t record = {.topic = producer_str("t"), .tag = tag};
    CHECK_OK(producer_send(producer, &record, &error));
    size_t now = atomic_load(&step);
    if (tag % 500 == 0) EVENTUALLY(atomic_load(&step) > now);
  }
  CHECK_OK(producer_flush(producer, LONG_MS, &error));
  CHECK_LEDGER(&ledger, 0);
  CHECK_EQ(first + RECORDS, producer_mock_cluster_end_offset(cluster, producer_str("t"), 0));
  size_t seen[STEPS] = {0}, kinds = 0;
  for (int64_t offset = first; offset < first + RECORDS; offset++) {
    producer_record_t record;
    CHECK(producer_mock_cluster_read(cluster, producer_str("t"), 0, offset, &record));
    long long ahead = record.timestamp_ms / 1000 - real.tv_sec;
    size_t i = 0;
    while (i < STEPS && (ahead < steps[i] - 1 || ahead > steps[i] + 100)) i++;
    if (i == STEPS) FAIL("a time stamp is %lld s ahead", ahead);
    kinds += seen[i]++ == 0;
  }
  CHECK(kinds > 1);
  CHECK_OK(producer_close(producer, LONG_MS, NULL, &error));
  producer_free(producer);
  ledger_free(&ledger);
}

/* A poll without deliveries lasts its time, and is woken by one. */
static void polls(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
  producer_t *producer = start(config);
  producer_delivery_t delivery;
  size_t count = 9;
  CHECK_LASTS(300, 0,
              CHECK_STATUS(PRODUCER_OK, producer_poll(producer, &delivery, 1, 300, &count)));
  CHECK_EQ(0, count);
  producer_record_t record = {.topic = producer_str("t")};
  CHECK_OK(producer_send(producer, &record, &error));
  CHECK_LASTS(0, 0, CHECK_STATUS(PRODUCER_OK, producer_poll(producer, &delivery, 1, -1, &count)));
  CHECK_EQ(1, count);
  CHECK_OK(producer_close(producer, LONG_MS, NULL, &error));
  producer_free(producer);
}

int main(void) {
  producer_mock_cluster_t *cluster = new_cluster(1);
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("t"), 1));
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("waits"), 1));
  atomic_int disturbed = 1;
  pthread_t disturber;
  disturb(true);
  CHECK_EQ(0, pthread_create(&disturber, NULL, disturb_the_library, &disturbed));
  for (int round = 0; round < 2; round++) {
    atomic_store(&scale, YEARS);
    waits(cluster);
    atomic_store(&scale, 1);
    flows(cluster);
    polls(cluster);
  }
  disturb(false);
  atomic_store(&disturbed, 0);
  CHECK_EQ(0, pthread_join(disturber, NULL));
  CHECK(wall_readings > 0);
  CHECK(signals > 100 && signals_of_the_library > 100);
  producer_mock_cluster_free(cluster);
  return 0;
}
