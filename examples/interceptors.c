/*
 * interceptors: two that most who run a producer want.
 *
 *   KAFKA_BOOTSTRAP=host:port interceptors [TOPIC]...
 *
 * The first stamps each record with a W3C `traceparent` header, unless it has one: a new trace,
 * sampled or not by `interceptor.traceparent.sampled`. The second counts per topic what was sent
 * and what became of it. The program sends ten records to each topic (`orders` and `payments` if it
 * is not told others), and prints the counts. Without KAFKA_BOOTSTRAP there is a cluster inside
 * this process.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <kafka_producer.h>
#include <kafka_producer_mock.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { RECORDS = 10, MAX_TOPICS = 64, MAX_NAME = 250 };

static void fail(const char *what, const char *why) {
  fprintf(stderr, "interceptors: %s: %s\n", what, why);
  exit(1);
}

/* ---- The first: a traceparent for every record (https://www.w3.org/TR/trace-context/) ---- */

enum { TRACEPARENT = 55 };  /* 00-<32 digits>-<16 digits>-<2 digits> */

typedef struct {
  atomic_uint_fast64_t state;
  bool sampled;
} tracer_t;

static producer_status_t tracer_configure(const producer_config_t *config, void *user_data) {
  tracer_t *tracer = user_data;
  const char *sampled = producer_config_get(config, "interceptor.traceparent.sampled");
  tracer->sampled = sampled == NULL || strcmp(sampled, "true") == 0;
  if (!tracer->sampled && strcmp(sampled, "false") != 0) return PRODUCER_ERR_INVALID_CONFIG;
  uint64_t seed;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed) return PRODUCER_ERR_INVALID_STATE;
  atomic_init(&tracer->state, seed);
  return PRODUCER_OK;
}

/* SplitMix64, from all threads at once; never 0, which no id may be. */
static uint64_t tracer_random(tracer_t *tracer) {
  uint64_t z = atomic_fetch_add(&tracer->state, UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (z ^ (z >> 31)) | 1;
}

static char *put_hex(char *to, uint64_t number) {
  for (int shift = 60; shift >= 0; shift -= 4) *to++ = "0123456789abcdef"[number >> shift & 15];
  return to;
}

static producer_status_t tracer_on_send(producer_record_t *record, producer_arena_t *arena,
                                        void *user_data) {
  static const char name[] = "traceparent";
  tracer_t *tracer = user_data;
  for (size_t i = 0; i < record->header_count; i++) {
    producer_slice_t key = record->headers[i].key;
    if (key.len == sizeof name - 1 && memcmp(key.data, name, key.len) == 0) return PRODUCER_OK;
  }
  size_t count = record->header_count;
  producer_header_t *headers = producer_arena_alloc(arena, (count + 1) * sizeof *headers);
  char *value = producer_arena_alloc(arena, TRACEPARENT);
  if (headers == NULL || value == NULL) return PRODUCER_ERR_BUFFER_FULL;
  char *end = value;
  memcpy(end, "00-", 3);
  end = put_hex(put_hex(end + 3, tracer_random(tracer)), tracer_random(tracer));
  *end++ = '-';
  end = put_hex(end, tracer_random(tracer));
  memcpy(end, tracer->sampled ? "-01" : "-00", 3);
  if (count > 0) memcpy(headers, record->headers, count * sizeof *headers);
  headers[count].key = producer_str(name);
  headers[count].value = (producer_slice_t){ (const uint8_t *)value, TRACEPARENT };
  record->headers = headers;
  record->header_count = count + 1;
  return PRODUCER_OK;
}

/* ---- The second: what was sent to each topic, and what became of it ---- */

typedef struct {
  pthread_mutex_t lock; /* held for a few instructions: calls of several threads overlap */
  size_t count;
  struct {
    char name[MAX_NAME];
    uint64_t sent, acknowledged, failed, refused;
  } topics[MAX_TOPICS]; /* records of more topics go to the last */
} counter_t;

/* The place of a topic; the lock is held. */
static size_t counter_find(counter_t *counter, producer_slice_t topic) {
  for (size_t i = 0; i < counter->count; i++) {
    const char *name = counter->topics[i].name;
    if (strlen(name) == topic.len && memcmp(name, topic.data, topic.len) == 0) return i;
  }
  if (counter->count == MAX_TOPICS || topic.len >= MAX_NAME) return MAX_TOPICS - 1;
  memcpy(counter->topics[counter->count].name, topic.data, topic.len);
  return counter->count++;
}

static producer_status_t counter_on_send(producer_record_t *record, producer_arena_t *arena,
                                         void *user_data) {
  (void)arena;
  counter_t *counter = user_data;
  pthread_mutex_lock(&counter->lock);
  counter->topics[counter_find(counter, record->topic)].sent++;
  pthread_mutex_unlock(&counter->lock);
  return PRODUCER_OK;
}

static void counter_on_acknowledgement(const producer_delivery_t *delivery, void *user_data) {
  counter_t *counter = user_data;
  pthread_mutex_lock(&counter->lock);
  size_t topic = counter_find(counter, delivery->topic);
  if (delivery->status == PRODUCER_OK) {
    counter->topics[topic].acknowledged += delivery->count;
  } else if (delivery->failure->stage == PRODUCER_STAGE_REFUSED) {
    counter->topics[topic].refused += delivery->count;
  } else {
    counter->topics[topic].failed += delivery->count;
  }
  pthread_mutex_unlock(&counter->lock);
}

/* Nobody calls the others any more. */
static void counter_on_close(void *user_data) {
  counter_t *counter = user_data;
  printf("%-20s %8s %12s %8s %8s\n", "topic", "sent", "acknowledged", "failed", "refused");
  for (size_t i = 0; i < counter->count; i++) {
    printf("%-20s %8" PRIu64 " %12" PRIu64 " %8" PRIu64 " %8" PRIu64 "\n", counter->topics[i].name,
           counter->topics[i].sent, counter->topics[i].acknowledged, counter->topics[i].failed,
           counter->topics[i].refused);
  }
}

/* ---- A producer with both ---- */

int main(int argc, char **argv) {
  const char *const others[] = { "orders", "payments" };
  const char *const *topics = argc > 1 ? (const char *const *)argv + 1 : others;
  int topic_count = argc > 1 ? argc - 1 : 2;
  producer_error_t error = { 0 };
  producer_mock_cluster_t *cluster = NULL;
  const char *servers = getenv("KAFKA_BOOTSTRAP");
  if (servers == NULL) {
    if (producer_mock_cluster_new(1, &cluster, &error) != PRODUCER_OK) {
      fail("cluster", error.message);
    }
    servers = producer_mock_cluster_bootstrap_servers(cluster);
  }
  static tracer_t tracer;
  static counter_t counter = { .lock = PTHREAD_MUTEX_INITIALIZER };
  const producer_interceptor_t traces = {
    .struct_size = sizeof traces,
    .user_data = &tracer,
    .configure = tracer_configure,
    .on_send = tracer_on_send,
  };
  const producer_interceptor_t counts = {
    .struct_size = sizeof counts,
    .user_data = &counter,
    .on_send = counter_on_send,
    .on_acknowledgement = counter_on_acknowledgement,
    .on_close = counter_on_close,
  };
  const char *sampled = getenv("TRACEPARENT_SAMPLED");
  producer_t *producer = NULL;
  producer_config_t *config = producer_config_new();
  if (producer_config_set(config, "bootstrap.servers", servers, &error) ||
      producer_config_set(config, "interceptor.traceparent.sampled", sampled ? sampled : "true",
                          &error) ||
      producer_config_add_interceptor(config, &traces) ||
      producer_config_add_interceptor(config, &counts) ||
      producer_new(config, &producer, &error)) {
    fail("start", error.message);
  }
  producer_config_free(config);
  for (int i = 0; i < topic_count * RECORDS; i++) {
    producer_record_t record = {
      .topic = producer_str(topics[i % topic_count]),
      .value = producer_str("something happened"),
    };
    if (producer_send(producer, &record, &error) != PRODUCER_OK) {
      fprintf(stderr, "interceptors: send: %s\n", error.message);
    }
  }
  if (producer_close(producer, PRODUCER_TIMEOUT_DEFAULT, NULL, &error) != PRODUCER_OK) {
    fail("close", error.message);
  }
  producer_free(producer);
  producer_mock_cluster_free(cluster);
  return 0;
}
