/* fork() while threads send: in a child every call on the parent's producer says FORKED at once,
 * its free waits for nothing, a config still works; the parent notices nothing. */
#include "support.h"

#include <sys/wait.h>

#define SENDERS 2
#define PER_SENDER 30000
#define CHILDREN 40

/* AddressSanitizer's allocator does not survive a fork while another thread is inside it: there the
 * children come when everybody is done. */
#if defined(__SANITIZE_ADDRESS__)
#define QUIET true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define QUIET true
#endif
#endif
#ifndef QUIET
#define QUIET false
#endif

static producer_t *producer;
static atomic_int stop;

typedef struct {
  uint64_t first, sent;
} sender_t;

static void *send_many(void *argument) {
  sender_t *sender = argument;
  producer_error_t error;
  for (; sender->sent < PER_SENDER && !atomic_load(&stop); sender->sent++) {
    producer_record_t record = {.topic = producer_str("parent"),
                                .value = producer_str("0123456789"),
                                .tag = sender->first + sender->sent};
    CHECK_OK(producer_send(producer, &record, &error));
  }
  return NULL;
}

static void child(producer_mock_cluster_t *cluster, producer_config_t *config, bool sends) {
  producer_error_t error;
  producer_record_t record = {.topic = producer_str("parent"), .tag = 1};
  producer_receipt_t receipt;
  producer_counters_t counters;
  producer_partition_info_t partition;
  producer_delivery_t delivery;
  producer_slice_t null = {NULL, 0};
  size_t count;
  const producer_status_t forked = PRODUCER_ERR_FORKED;
  alarm(2 * LONG_MS / 1000);
  int64_t begin = now_ms();
  CHECK_FAILS(forked, producer_send(producer, &record, &error));
  CHECK(strstr(error.message, "fork"));
  CHECK_FAILS(forked, producer_try_send(producer, &record, &error));
  CHECK_FAILS(forked, producer_send_sync(producer, &record, -1, &receipt, &error));
  CHECK_FAILS(forked, producer_send_batch(producer, &record, 1, -1, &count, &error));
  CHECK_FAILS(forked, producer_send_columns(producer, record.topic, -1, null, NULL, null, NULL, 0,
                                            0, -1, &count, &error));
  CHECK_FAILS(forked, producer_flush(producer, -1, &error));
  CHECK_FAILS(forked, producer_close(producer, -1, NULL, &error));
  CHECK_FAILS(forked, producer_partitions_for(producer, record.topic, &partition, 1, -1, &count,
                                              &error));
  CHECK_STATUS(forked, producer_purge(producer, null, -1));
  CHECK_STATUS(forked, producer_poll(producer, &delivery, 1, -1, &count));
  CHECK_STATUS(forked, producer_get_counters(producer, &counters));
  CHECK_EQ(-1, producer_poll_fd(producer));
  CHECK_STATUS(forked, producer_mock_cluster_create_topic(cluster, record.topic, 1));
  producer_free(producer);
  producer_mock_cluster_free(cluster);
  /* At once: as the configuration has it, sending alone would wait as long as that. */
  CHECK(now_ms() - begin < LONG_MS);
  if (sends) {
    /* A producer per process, from the parent's config. */
    producer_t *own = start(producer_config_clone(config));
    record.topic = producer_str("child");
    CHECK_OK(producer_send_sync(own, &record, LONG_MS, &receipt, &error));
    CHECK_OK(producer_close(own, LONG_MS, NULL, &error));
    producer_free(own);
  }
  _exit(0);
}

int main(void) {
  producer_error_t error;
  producer_mock_cluster_t *cluster = new_cluster(1);
  ledger_t ledger;
  ledger_init(&ledger, SENDERS * PER_SENDER);
  producer_config_t *plain = config_for(cluster), *config = producer_config_clone(plain);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, ledger_callback,
                                                                  &ledger));
  producer = start(config);
  sender_t senders[SENDERS];
  pthread_t threads[SENDERS];
  for (uint64_t i = 0; i < SENDERS; i++) {
    senders[i] = (sender_t){.first = i * PER_SENDER};
    CHECK_EQ(0, pthread_create(&threads[i], NULL, send_many, &senders[i]));
  }
  if (QUIET) {
    for (int i = 0; i < SENDERS; i++) CHECK_EQ(0, pthread_join(threads[i], NULL));
    CHECK_OK(producer_flush(producer, 30000, &error));
  }
  for (int i = 0; i < CHILDREN; i++) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) child(cluster, plain, i % 10 == 0);
    int status = -1;
    CHECK_EQ(pid, waitpid(pid, &status, 0));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) FAIL("child %d ends with %x", i, status);
  }
  for (int i = 0; i < SENDERS && !QUIET; i++) CHECK_EQ(0, pthread_join(threads[i], NULL));
  CHECK_OK(producer_flush(producer, 30000, &error));
  CHECK_LEDGER(&ledger, 0);
  CHECK_EQ(SENDERS * PER_SENDER,
           producer_mock_cluster_end_offset(cluster, producer_str("parent"), 0));
  CHECK_EQ((CHILDREN + 9) / 10,
           producer_mock_cluster_end_offset(cluster, producer_str("child"), 0));
  producer_config_free(plain);
  producer_free(producer);
  producer_mock_cluster_free(cluster);
  ledger_free(&ledger);
  return 0;
}
