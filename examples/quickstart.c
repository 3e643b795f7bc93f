/*
 * quickstart: sends a million records and shows where they went and how long it took.
 *
 * They go to a Kafka cluster inside this process, or, with KAFKA_BOOTSTRAP=host:port in the
 * environment, to that one: to its topic `quickstart` as it is, or as the cluster creates it.
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <kafka_producer.h>
#include <kafka_producer_mock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TOPIC "quickstart"
enum { PARTITIONS = 6, RECORDS = 1000000, VALUE_BYTES = 100, USERS = 100000, HEADER_EVERY = 10 };

/* What became of the records. The callback thread writes it, until the producer is closed. */
typedef struct {
  struct {
    uint64_t records;
    int64_t first_offset, last_offset;
  } *partitions;
  size_t partition_count;
  uint32_t *latencies_us; /* of each delivered record, from send to delivery */
  size_t delivered, failed;
  char reason[512]; /* of the first failure */
} results_t;

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void fail(const char *what, const char *why) {
  fprintf(stderr, "quickstart: %s: %s\n", what, why);
  exit(1);
}

/* ---- Deliveries ---- */

/* Makes room for a partition, for nobody said how many there are. */
static void reach_partition(results_t *results, size_t partition) {
  if (partition < results->partition_count) return;
  size_t size = sizeof *results->partitions;
  results->partitions = realloc(results->partitions, (partition + 1) * size);
  if (results->partitions == NULL) fail("deliveries", "out of memory");
  memset(results->partitions + results->partition_count, 0,
         (partition + 1 - results->partition_count) * size);
  results->partition_count = partition + 1;
}

static void take_delivery(results_t *results, const producer_delivery_t *delivery) {
  if (delivery->status != PRODUCER_OK) {
    if (results->failed == 0) {
      snprintf(results->reason, sizeof results->reason, "%s", delivery->failure->message);
    }
    results->failed += delivery->count;
    return;
  }
  size_t partition = (size_t)delivery->partition;
  int64_t last_offset = delivery->base_offset + (int64_t)delivery->count - 1;
  reach_partition(results, partition);
  if (results->partitions[partition].records == 0) {
    results->partitions[partition].first_offset = delivery->base_offset;
  }
  results->partitions[partition].last_offset = last_offset;
  results->partitions[partition].records += delivery->count;
  uint64_t now = now_ns();
  for (uint32_t i = 0; i < delivery->count; i++) { /* a record's tag is the time it was sent */
    results->latencies_us[results->delivered++] = (uint32_t)((now - delivery->tags[i]) / 1000);
  }
}

static void on_delivery(const producer_delivery_t *deliveries, size_t count, void *results) {
  for (size_t i = 0; i < count; i++) take_delivery(results, &deliveries[i]);
}

static void on_log(producer_log_level_t level, const char *target, const char *message,
                   void *user_data) {
  (void)level, (void)user_data;
  fprintf(stderr, "%s: %s\n", target, message);
}

/* ---- Sending ---- */

/* A line that is written again and again, on a terminal only; records of 0 wipes it. */
static void show_progress(const producer_t *producer, int sent) {
  static uint64_t shown_ns;
  producer_counters_t counters;
  if (!isatty(STDERR_FILENO)) return;
  if (sent == 0) {
    fprintf(stderr, "\r\033[K");
  } else if (now_ns() - shown_ns > 50000000 &&
             producer_get_counters(producer, &counters) == PRODUCER_OK) {
    shown_ns = now_ns();
    fprintf(stderr, "\r\033[K%d sent, %" PRIu64 " acknowledged", sent, counters.acknowledged);
  }
}

static void write_digits(char *digits, int count, int number) {
  for (; count > 0; number /= 10) digits[--count] = (char)('0' + number % 10);
}

static void send_all(producer_t *producer) {
  char key[] = "user-00000";
  char value[VALUE_BYTES];
  memset(value, '.', sizeof value);
  const producer_header_t header = { producer_str("content-type"), producer_str("text/plain") };
  producer_record_t record = {
    .topic = producer_str(TOPIC),
    .key = producer_str(key),
    .value = { (const uint8_t *)value, sizeof value },
    .headers = &header,
  };
  producer_error_t error;
  for (int i = 0; i < RECORDS; i++) {
    write_digits(key + 5, 5, i % USERS);
    write_digits(value, 7, i);
    record.header_count = i % HEADER_EVERY == 0 ? 1 : 0;
    record.tag = now_ns();
    if (producer_send(producer, &record, &error) != PRODUCER_OK) fail("send", error.message);
    if (i % 4096 == 0) show_progress(producer, i + 1);
  }
  producer_status_t status;
  while ((status = producer_flush(producer, 50, &error)) == PRODUCER_ERR_TIMED_OUT) {
    show_progress(producer, RECORDS);
  }
  if (status != PRODUCER_OK) fail("flush", error.message);
  show_progress(producer, 0);
}

/* ---- Results ---- */

static int compare_latencies(const void *a, const void *b) {
  uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
  return (left > right) - (left < right);
}

static void print_results(results_t *results, double seconds) {
  printf("\npartition    records  first offset   last offset\n");
  for (size_t i = 0; i < results->partition_count; i++) {
    if (results->partitions[i].records == 0) continue;
    printf("%9zu %10" PRIu64 " %13" PRId64 " %13" PRId64 "\n", i, results->partitions[i].records,
           results->partitions[i].first_offset, results->partitions[i].last_offset);
  }
  qsort(results->latencies_us, results->delivered, sizeof *results->latencies_us,
        compare_latencies);
  double p50_ms = results->latencies_us[results->delivered / 2] / 1000.0;
  double p99_ms = results->latencies_us[results->delivered / 100 * 99] / 1000.0;
  double per_second = (double)results->delivered / seconds;
  printf("\n%.0f records/s, %.1f MB/s; from send to delivery p50 %.1f ms, p99 %.1f ms\n",
         per_second, per_second * VALUE_BYTES / 1e6, p50_ms, p99_ms);
}

int main(void) {
  producer_error_t error = { 0 };
  producer_mock_cluster_t *cluster = NULL;
  const char *servers = getenv("KAFKA_BOOTSTRAP");
  if (servers == NULL) {
    if (producer_mock_cluster_new(1, &cluster, &error) != PRODUCER_OK ||
        producer_mock_cluster_create_topic(cluster, producer_str(TOPIC), PARTITIONS) !=
            PRODUCER_OK) {
      fail("cluster", "cannot be made inside this process");
    }
    servers = producer_mock_cluster_bootstrap_servers(cluster);
  }
  results_t results = { .latencies_us = calloc(RECORDS, sizeof(uint32_t)) };
  if (results.latencies_us == NULL) fail("start", "out of memory");

  producer_t *producer = NULL;
  producer_config_t *config = producer_config_new();
  if (producer_config_set(config, "bootstrap.servers", servers, &error) ||
      producer_config_set_delivery_callback(config, on_delivery, &results) ||
      producer_config_set_log_callback(config, PRODUCER_LOG_WARNING, on_log, NULL) ||
      producer_new(config, &producer, &error)) {
    fail("start", error.message);
  }
  producer_config_free(config);
  printf("%d records of %d bytes to topic %s of %s%s\n", RECORDS, VALUE_BYTES, TOPIC, servers,
         cluster != NULL ? ", a cluster inside this process" : "");
  fflush(stdout);

  uint64_t began_ns = now_ns();
  send_all(producer);
  double seconds = (double)(now_ns() - began_ns) / 1e9;
  if (producer_close(producer, PRODUCER_TIMEOUT_DEFAULT, NULL, &error) != PRODUCER_OK) {
    fail("close", error.message);
  }
  producer_free(producer);
  producer_mock_cluster_free(cluster);

  if (results.delivered > 0) print_results(&results, seconds);
  if (results.failed > 0) {
    fprintf(stderr, "quickstart: %zu records failed: %s\n", results.failed, results.reason);
  }
  free(results.partitions);
  free(results.latencies_us);
  return results.failed > 0;
}
