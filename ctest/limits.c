/* A process at its limits: without descriptors or threads producer_new() says so and leaves nothing
 * behind, and later producers work. */
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

/* AddressSanitizer has a pthread_create() of its own. */
#if !defined(__SANITIZE_ADDRESS__)
#define FAILING_THREADS 1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#undef FAILING_THREADS
#endif
#endif

static int open_descriptors(void) {
  DIR *directory = opendir("/proc/self/fd");
  CHECK(directory);
  int count = 0;
  while (readdir(directory)) count++;
  closedir(directory);
  return count;
}

static void refused_or_working(const producer_config_t *config, bool *refused, bool *works) {
  producer_error_t error;
  producer_t *producer = NULL;
  memset(&error, 0, sizeof error);
  producer_status_t status = producer_new(config, &producer, &error);
  if (status != PRODUCER_OK) {
    CHECK_EQ(PRODUCER_ERR_INVALID_STATE, status);
    CHECK(strstr(error.message, "ulimit"));
    CHECK(producer == NULL);
    *refused = true;
    return;
  }
  *works = true;
  producer_free(producer);
}

static void send_one(const producer_config_t *config) {
  producer_error_t error;
  producer_t *producer = start(producer_config_clone(config));
  producer_record_t record = {.topic = producer_str("limits")};
  producer_receipt_t receipt;
  CHECK_OK(producer_send_sync(producer, &record, 30000, &receipt, &error));
  producer_free(producer);
}

static void descriptors(const producer_config_t *config) {
  struct rlimit old, limit;
  bool refused = false, works = false;
  CHECK_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
  /* No holes below the limit: what is free is above all that is in use. */
  int holes[256], count = 0, highest = 0;
  do {
    holes[count] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(holes[count] >= 0);
    highest = holes[count] > highest ? holes[count] : highest;
  } while (++count < 32);
  int before = open_descriptors();
  for (int available = 0; available < 16; available++) {
    limit = old;
    limit.rlim_cur = (rlim_t)(highest + 1 + available);
    CHECK_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
    refused_or_working(config, &refused, &works);
    CHECK_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
    /* The mock cluster hangs up a moment later. */
    EVENTUALLY(open_descriptors() == before);
  }
  CHECK(refused && works);
  while (count > 0) close(holes[--count]);
  send_one(config);
}

#ifdef FAILING_THREADS

/* How many threads may be started yet; below 0: any number. */
static atomic_int threads_left = -1;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument) {
  static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  if (!real) {
    void *symbol = dlsym(RTLD_NEXT, "pthread_create");
    memcpy(&real, &symbol, sizeof symbol);
  }
  if (atomic_load(&threads_left) == 0) return EAGAIN;
  if (atomic_load(&threads_left) > 0) atomic_fetch_sub(&threads_left, 1);
  return real(thread, attributes, run, argument);
}

static void threads(const producer_config_t *config) {
  int before = threads_named("");
  for (int available = 0; available < 4; available++) {
    bool refused = false, works = false;
    atomic_store(&threads_left, available);
    refused_or_working(config, &refused, &works);
    CHECK_EQ(available < 2, refused); /* the callback thread and the network thread */
    CHECK_EQ(available >= 2, works);
    EVENTUALLY(threads_named("") == before);
  }
  atomic_store(&threads_left, -1);
  send_one(config);

  producer_error_t error;
  producer_mock_cluster_t *cluster = NULL;
  atomic_store(&threads_left, 0);
  CHECK_FAILS(PRODUCER_ERR_INVALID_STATE, producer_mock_cluster_new(1, &cluster, &error));
  atomic_store(&threads_left, -1);
}

typedef struct {
  atomic_uintptr_t producer;
  atomic_int reported;
} last_t;

static void free_inside(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  last_t *last = user_data;
  producer_t *producer = (producer_t *)atomic_exchange(&last->producer, 0);
  if (producer) {
    atomic_store(&threads_left, 0);
    producer_free(producer);
    atomic_store(&threads_left, -1);
  }
  for (size_t i = 0; i < count; i++) atomic_fetch_add(&last->reported, (int)deliveries[i].count);
}

/* Freed inside its own callback, with no thread to do the waiting: its records are reported all the
 * same, and its threads end. */
static void freed_without_a_thread(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  last_t last = {0};
  int before = threads_named("");
  producer_config_t *config = config_for(cluster);
  set_key(config, "linger.ms", "60000");
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, free_inside, &last));
  producer_t *producer = start(config);
  producer_record_t record = {.topic = producer_str("first")};
  CHECK_OK(producer_send(producer, &record, &error));
  record.topic = producer_str("second");
  CHECK_OK(producer_send(producer, &record, &error));
  atomic_store(&last.producer, (uintptr_t)producer);
  CHECK_STATUS(PRODUCER_OK, producer_purge(producer, producer_str("first"), -1));
  EVENTUALLY(atomic_load(&last.reported) >= 2);
  CHECK_EQ(2, last.reported);
  EVENTUALLY(threads_named("") == before);
}

#endif

int main(void) {
  producer_mock_cluster_t *cluster = new_cluster(1);
  ledger_t ledger;
  ledger_init(&ledger, 0);
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, ledger_callback,
                                                                  &ledger));
  descriptors(config);
#ifdef FAILING_THREADS
  threads(config);
  freed_without_a_thread(cluster);
#endif
  producer_config_free(config);
  producer_mock_cluster_free(cluster);
  ledger_free(&ledger);
  return 0;
}
