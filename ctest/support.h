/* What the C tests share: checks that end the program with a line that says where and why, a mock
 * cluster with a producer on it, and a ledger of tags. Only the public headers are used. */
#pragma once
#include <kafka_producer.h>
#include <kafka_producer_mock.h>

#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

__attribute__((format(printf, 3, 4), noreturn, unused)) static void fail_at(
    const char *file, int line, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s:%d: ", file, line);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  fflush(stderr);
  _exit(1);
}

#define FAIL(...) fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition) \
  do { \
    if (!(condition)) FAIL("not true: %s", #condition); \
  } while (0)
#define CHECK_EQ(expected, actual) \
  do { \
    long long expected_ = (long long)(expected), actual_ = (long long)(actual); \
    if (expected_ != actual_) FAIL("%s: %lld, expected %lld", #actual, actual_, expected_); \
  } while (0)
#define CHECK_TEXT(expected, actual) \
  do { \
    const char *actual_ = (actual); \
    if (!actual_ || strcmp((expected), actual_) != 0) \
      FAIL("%s: \"%s\", expected \"%s\"", #actual, actual_ ? actual_ : "(null)", (expected)); \
  } while (0)

/* A call without an error argument. */
#define CHECK_STATUS(expected, call) \
  do { \
    producer_status_t status_ = (call); \
    if (status_ != (expected)) \
      FAIL("%s: %s, expected %s", #call, producer_status_name(status_), \
           producer_status_name(expected)); \
  } while (0)

/* A call that fills `error`, which must be in scope. */
#define CHECK_OK(call) \
  do { \
    producer_status_t status_ = (call); \
    if (status_ != PRODUCER_OK) \
      FAIL("%s: %s: %s", #call, producer_status_name(status_), error.message); \
  } while (0)
#define CHECK_FAILS(expected, call) \
  do { \
    memset(&error, 0, sizeof error); \
    producer_status_t status_ = (call); \
    if (status_ != (expected)) \
      FAIL("%s: %s: %s, expected %s", #call, producer_status_name(status_), error.message, \
           producer_status_name(expected)); \
    CHECK_EQ(status_, error.status); \
    CHECK(error.message[0] != 0); \
  } while (0)

__attribute__((unused)) static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

__attribute__((unused)) static void sleep_ms(int ms) {
  struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
  nanosleep(&time, NULL);
}

/* Bounds every wait for what is to come; none of these is a measurement. */
enum { LONG_MS = 60000 };

/* Waits for what another thread does. */
#define EVENTUALLY(condition) \
  do { \
    int64_t end_ = now_ms() + LONG_MS; \
    while (!(condition)) { \
      if (now_ms() > end_) FAIL("not in %d ms: %s", LONG_MS, #condition); \
      sleep_ms(1); \
    } \
  } while (0)

/* How many threads of this process have names that begin so. One that has ended and was joined may
 * be listed a moment longer: who is on the way out does not count. */
__attribute__((unused)) static int threads_named(const char *prefix) {
  const unsigned exiting = 4; /* PF_EXITING, which is set before a join returns */
  int count = 0;
  DIR *tasks = opendir("/proc/self/task");
  CHECK(tasks);
  for (struct dirent *task; (task = readdir(tasks));) {
    char path[300], line[512] = "";
    unsigned flags = 0;
    if (task->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/stat", task->d_name);
    FILE *file = fopen(path, "r");
    if (!file) continue;
    bool there = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    if (!there) continue;
    /* ID (NAME) STATE PARENT GROUP SESSION TERMINAL ITS-GROUP FLAGS */
    char *name = strchr(line, '('), *rest = strrchr(line, ')');
    CHECK(name && rest && sscanf(rest, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1);
    count += strncmp(name + 1, prefix, strlen(prefix)) == 0 && !(flags & exiting);
  }
  closedir(tasks);
  return count;
}

__attribute__((unused)) static producer_slice_t bytes_of(const void *data, size_t len) {
  producer_slice_t slice = {(const uint8_t *)data, len};
  return slice;
}

/* Whether two slices are both null, or both not null with the same bytes. */
__attribute__((unused)) static bool same_bytes(producer_slice_t a, producer_slice_t b) {
  if (!a.data || !b.data) return !a.data && !b.data;
  return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* What records with the tags 0 to size - 1 came to: each must be reported exactly once. Filled by
 * ledger_callback(), or by ledger_enter() from a poll. */
typedef struct {
  size_t size;
  atomic_uchar *seen;
  atomic_size_t reported, failed;
  atomic_int last_failure;
} ledger_t;

__attribute__((unused)) static void ledger_init(ledger_t *ledger, size_t size) {
  memset(ledger, 0, sizeof *ledger);
  ledger->size = size;
  ledger->seen = calloc(size, sizeof *ledger->seen);
  CHECK(ledger->seen);
}

__attribute__((unused)) static void ledger_enter(ledger_t *ledger, const producer_delivery_t *d) {
  CHECK(d->count > 0);
  CHECK((d->status == PRODUCER_OK) == (d->failure == NULL));
  CHECK_EQ(0, d->reserved);
  for (uint32_t i = 0; i < d->count; i++) {
    CHECK(d->tags[i] < ledger->size);
    if (atomic_fetch_add(&ledger->seen[d->tags[i]], 1) != 0)
      FAIL("tag %llu is reported twice", (unsigned long long)d->tags[i]);
  }
  atomic_fetch_add(&ledger->reported, d->count);
  if (d->failure) {
    CHECK(d->failure->message && d->failure->message[0]);
    CHECK(d->failure->network_error);
    CHECK(d->failure->stage >= PRODUCER_STAGE_NO_METADATA);
    CHECK(d->failure->stage <= PRODUCER_STAGE_ANSWERED);
    atomic_fetch_add(&ledger->failed, d->count);
    atomic_store(&ledger->last_failure, d->status);
  }
}

__attribute__((unused)) static void ledger_callback(const producer_delivery_t *deliveries,
                                                    size_t count, void *ledger) {
  for (size_t i = 0; i < count; i++) ledger_enter(ledger, &deliveries[i]);
}

/* Every tag below `size` was reported, `failed` of them as failures. */
#define CHECK_LEDGER(ledger, expected_failed) \
  do { \
    for (size_t tag_ = 0; tag_ < (ledger)->size; tag_++) \
      if ((ledger)->seen[tag_] != 1) FAIL("tag %zu is reported %d times", tag_, \
                                          (ledger)->seen[tag_]); \
    CHECK_EQ((ledger)->size, (ledger)->reported); \
    CHECK_EQ(expected_failed, (ledger)->failed); \
  } while (0)

__attribute__((unused)) static void ledger_free(ledger_t *ledger) {
  free((void *)ledger->seen);
}

/* A cluster, and a config that leads to it. */
__attribute__((unused)) static producer_mock_cluster_t *new_cluster(int brokers) {
  producer_error_t error;
  producer_mock_cluster_t *cluster = NULL;
  CHECK_OK(producer_mock_cluster_new(brokers, &cluster, &error));
  return cluster;
}

__attribute__((unused)) static void set_key(producer_config_t *config, const char *key,
                                            const char *value) {
  producer_error_t error;
  CHECK_OK(producer_config_set(config, key, value, &error));
}

__attribute__((unused)) static producer_config_t *config_for(
    const producer_mock_cluster_t *cluster) {
  producer_config_t *config = producer_config_new();
  CHECK(config);
  set_key(config, "bootstrap.servers", producer_mock_cluster_bootstrap_servers(cluster));
  return config;
}

/* Starts a producer and frees the config. */
__attribute__((unused)) static producer_t *start(producer_config_t *config) {
  producer_error_t error;
  producer_t *producer = NULL;
  CHECK_OK(producer_new(config, &producer, &error));
  CHECK(producer);
  producer_config_free(config);
  return producer;
}

/* Nothing pending, and accepted == acknowledged + failed. */
#define CHECK_COUNTERS(producer, expected_acknowledged, expected_failed) \
  do { \
    producer_counters_t counters_; \
    CHECK_STATUS(PRODUCER_OK, producer_get_counters((producer), &counters_)); \
    CHECK_EQ(counters_.accepted, counters_.acknowledged + counters_.failed + counters_.pending); \
    CHECK_EQ(0, counters_.pending); \
    CHECK_EQ(expected_acknowledged, counters_.acknowledged); \
    CHECK_EQ(expected_failed, counters_.failed); \
  } while (0)
