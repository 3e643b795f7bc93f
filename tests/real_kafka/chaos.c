/*
 * chaos: four threads that send self-describing records through one handle until they are stopped,
 * while somebody else breaks the brokers. test_chaos.py drives it, chaos_checker.py reads what it
 * writes.
 *
 *   chaos OUTCOMES RATE PLACED KEYED [-X KEY=VALUE]...
 *
 * PLACED and KEYED are topics of PARTITIONS partitions; RATE is records per second in all. Each
 * thread has a stream per partition of PLACED, whose records name their partition, and
 * KEYED_STREAMS streams of KEYED, which the partitioner places by their key. A stream has one key
 * and numbers its records from 0. They come in bursts of more than one batch, and bursts in
 * volleys: several batches of many partitions are in flight at a time, and few at others.
 *
 * A record's value is `topic|partition|key|sequence|padding|crc`: partition -1 where the
 * partitioner chose, crc the CRC-32 (zlib's) of all before it, 8 hexadecimal digits. Its tag is
 * stream << 40 | sequence.
 *
 * Standard input: each line is answered by a line `counters ACCEPTED ACKNOWLEDGED FAILED PENDING`.
 * Its end stops the senders; then all is flushed, the handle closed, and the last lines are
 *   sent STREAM TOPIC PARTITION KEY COUNT      one per stream
 *   closed ABORTED ACCEPTED ACKNOWLEDGED FAILED PENDING
 * OUTCOMES gets a line per record: TAG STATUS FLAGS TOPIC PARTITION OFFSET MESSAGE, with a tab
 * between fields. The library's log goes to stderr. Exit status 2: a call failed.
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <kafka_producer.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  THREADS = 4,
  PARTITIONS = 32, /* of each of the two topics */
  KEYED_STREAMS = 96,
  STREAMS = PARTITIONS + KEYED_STREAMS, /* of each thread */
  BURST = 24, /* more batches than may be in flight */
  MAX_VOLLEY = 16, /* bursts */
  MAX_VALUE = 512,
  SEQUENCE_BITS = 40,
};

typedef struct {
  const char *topic;
  int32_t partition;
  char key[24];
  uint64_t sent;
} stream_t;

typedef struct {
  pthread_t thread;
  uint64_t first_stream, random;
  stream_t streams[STREAMS];
} sender_t;

static producer_t *producer;
static sender_t senders[THREADS];
static atomic_bool stopping;
static int64_t burst_ns;
static FILE *outcomes;
static uint32_t crc_table[256];

static void fail(const char *what, const char *why) {
  fprintf(stderr, "chaos: %s: %s\n", what, why);
  exit(2);
}

static void check(producer_status_t status, const char *what, const producer_error_t *error) {
  if (status != PRODUCER_OK)
    fail(what, error != NULL ? error->message : producer_status_message(status));
}

/* ---- Outcomes ---- */

static void on_deliveries(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  (void)user_data;
  for (size_t i = 0; i < count; i++) {
    const producer_delivery_t *delivery = &deliveries[i];
    for (uint32_t j = 0; j < delivery->count; j++) {
      fprintf(outcomes, "%" PRIu64 "\t%s\t%" PRIu32 "\t%.*s\t%" PRId32 "\t%" PRId64 "\t%s\n",
              delivery->tags[j], producer_status_name(delivery->status), delivery->flags,
              (int)delivery->topic.len, (const char *)delivery->topic.data, delivery->partition,
              delivery->base_offset < 0 ? delivery->base_offset
                                        : delivery->base_offset + (int64_t)j,
              delivery->failure != NULL ? delivery->failure->message : "");
    }
  }
}

static void on_log(producer_log_level_t level, const char *target, const char *message,
                   void *user_data) {
  (void)user_data;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  struct tm utc;
  gmtime_r(&now.tv_sec, &utc);
  fprintf(stderr, "%02d:%02d:%02d.%03ld [%d] %s: %s\n", utc.tm_hour, utc.tm_min, utc.tm_sec,
          now.tv_nsec / 1000000, (int)level, target, message);
}

static void print_counters(const char *word, const producer_counters_t *counters) {
  printf("%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", word, counters->accepted,
         counters->acknowledged, counters->failed, counters->pending);
  fflush(stdout);
}

/* ---- Records ---- */

static void make_crc_table(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    crc_table[byte] = crc;
  }
}

static uint32_t crc32_of(const char *data, size_t size) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; i++) crc = crc >> 8 ^ crc_table[(crc ^ (uint8_t)data[i]) & 255];
  return ~crc;
}

static uint64_t next_random(sender_t *sender) {
  sender->random ^= sender->random << 13;
  sender->random ^= sender->random >> 7;
  sender->random ^= sender->random << 17;
  return sender->random;
}

static size_t write_value(char *value, sender_t *sender, const stream_t *stream) {
  size_t size = (size_t)snprintf(value, MAX_VALUE, "%s|%" PRId32 "|%s|%" PRIu64 "|", stream->topic,
                                 stream->partition, stream->key, stream->sent);
  size_t padding = next_random(sender) % 64;
  memset(value + size, 'x', padding);
  size += padding;
  value[size++] = '|';
  return size + (size_t)snprintf(value + size, 9, "%08" PRIx32, crc32_of(value, size));
}

static void send_next(sender_t *sender, uint64_t number) {
  stream_t *stream = &sender->streams[number];
  char value[MAX_VALUE];
  producer_record_t record = {
    .topic = producer_str(stream->topic),
    .key = producer_str(stream->key),
    .value = { (const uint8_t *)value, write_value(value, sender, stream) },
    .tag = (sender->first_stream + number) << SEQUENCE_BITS | stream->sent,
  };
  if (stream->partition >= 0) {
    record.partition = stream->partition;
    record.flags = PRODUCER_RECORD_HAS_PARTITION;
  }
  producer_error_t error;
  check(producer_send(producer, &record, &error), "producer_send", &error);
  stream->sent++;
}

static struct timespec later(struct timespec time, int64_t ns) {
  ns += time.tv_nsec;
  return (struct timespec){ time.tv_sec + ns / 1000000000, ns % 1000000000 };
}

/* A record of each stream, then a volley at a time, at the thread's share of the rate. What a wait
 * for memory costs is not made up for. */
static void *send_until_stopped(void *argument) {
  sender_t *sender = argument;
  for (uint64_t number = 0; number < STREAMS; number++) send_next(sender, number);
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  while (!atomic_load(&stopping)) {
    int64_t bursts = 1 + (int64_t)(next_random(sender) % MAX_VOLLEY);
    for (int64_t i = 0; i < bursts; i++) {
      uint64_t number = next_random(sender) % STREAMS;
      for (int j = 0; j < BURST; j++) send_next(sender, number);
    }
    next = later(next, bursts * burst_ns);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > next.tv_sec + 1) next = now;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
  }
  return NULL;
}

static void set_up_senders(const char *placed, const char *keyed) {
  for (int i = 0; i < THREADS; i++) {
    senders[i].first_stream = (uint64_t)i * STREAMS;
    senders[i].random = 0x9E3779B97F4A7C15u * (uint64_t)(i + 1);
    for (int j = 0; j < STREAMS; j++) {
      stream_t *stream = &senders[i].streams[j];
      bool by_key = j >= PARTITIONS;
      stream->topic = by_key ? keyed : placed;
      stream->partition = by_key ? -1 : j;
      snprintf(stream->key, sizeof stream->key, "%s-%d-%d", by_key ? "key" : "place", i, j);
    }
  }
}

/* ---- */

static void set(producer_config_t *config, char *pair) {
  producer_error_t error;
  char *equals = strchr(pair, '=');
  if (equals == NULL) fail(pair, "wants KEY=VALUE");
  *equals = '\0';
  check(producer_config_set(config, pair, equals + 1, &error), pair, &error);
}

static void start_producer(int pairs, char **words) {
  producer_error_t error;
  producer_config_t *config = producer_config_new();
  for (int i = 0; i < pairs; i += 2) {
    if (strcmp(words[i], "-X") != 0 || i + 1 == pairs) fail(words[i], "unknown argument");
    set(config, words[i + 1]);
  }
  check(producer_config_set_delivery_callback(config, on_deliveries, NULL), "set_delivery_callback",
        NULL);
  check(producer_config_set_log_callback(config, PRODUCER_LOG_INFO, on_log, NULL),
        "set_log_callback", NULL);
  check(producer_new(config, &producer, &error), "producer_new", &error);
  producer_config_free(config);
}

static void answer_until_end_of_input(void) {
  producer_counters_t counters;
  for (int c = getchar(); c != EOF; c = getchar()) {
    if (c != '\n') continue;
    check(producer_get_counters(producer, &counters), "producer_get_counters", NULL);
    print_counters("counters", &counters);
  }
}

int main(int argc, char **argv) {
  if (argc < 5) fail("usage", "chaos OUTCOMES RATE PLACED KEYED [-X KEY=VALUE]...");
  outcomes = fopen(argv[1], "w");
  double rate = atof(argv[2]);
  if (outcomes == NULL || rate <= 0) fail(argv[1], "cannot be written, or no rate");
  burst_ns = (int64_t)(1e9 * BURST * THREADS / rate);
  make_crc_table();
  set_up_senders(argv[3], argv[4]);
  start_producer(argc - 5, argv + 5);

  for (int i = 0; i < THREADS; i++) {
    if (pthread_create(&senders[i].thread, NULL, send_until_stopped, &senders[i]) != 0)
      fail("pthread_create", "no thread");
  }
  answer_until_end_of_input();
  atomic_store(&stopping, true);
  for (int i = 0; i < THREADS; i++) pthread_join(senders[i].thread, NULL);

  producer_error_t error;
  producer_counters_t counters;
  uint64_t aborted = 0;
  check(producer_flush(producer, PRODUCER_TIMEOUT_DEFAULT, &error), "producer_flush", &error);
  check(producer_get_counters(producer, &counters), "producer_get_counters", NULL);
  check(producer_close(producer, PRODUCER_TIMEOUT_DEFAULT, &aborted, &error), "producer_close",
        &error);
  producer_free(producer);
  if (fclose(outcomes) != 0) fail(argv[1], "cannot be written");
  for (int i = 0; i < THREADS; i++) {
    for (int j = 0; j < STREAMS; j++) {
      const stream_t *stream = &senders[i].streams[j];
      printf("sent %" PRIu64 " %s %" PRId32 " %s %" PRIu64 "\n",
             senders[i].first_stream + (uint64_t)j, stream->topic, stream->partition, stream->key,
             stream->sent);
    }
  }
  printf("closed %" PRIu64, aborted);
  print_counters("", &counters);
  return 0;
}
