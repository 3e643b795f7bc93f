/* Every way to send, every kind of record: each tag is reported exactly once, at the partition and
 * offset where the mock cluster's log holds exactly these bytes. */
#include "support.h"

#define RECORDS 20000
#define PARTITIONS 6
#define MAX_HEADERS 20

/* The record with a tag, made of the tag alone. */
typedef struct {
  producer_record_t record;
  char key[32];
  uint8_t *value;
  producer_header_t headers[MAX_HEADERS];
  char header_key[32];
} sample_t;

static uint8_t pattern[1 << 20];

static void make(sample_t *sample, uint64_t tag) {
  static const char unicode[] = "\xc3\xa4\xe2\x82\xac\xf0\x9f\xa6\x80";
  memset(sample, 0, sizeof *sample);
  producer_record_t *record = &sample->record;
  record->topic = producer_str("send");
  record->tag = tag;
  switch (tag % 5) {
    case 0: break; /* null */
    case 1: record->key = producer_str(""); break;
    case 2: record->key = producer_str(unicode); break;
    default:
      snprintf(sample->key, sizeof sample->key, "key %llu", (unsigned long long)(tag % 97));
      record->key = producer_str(sample->key);
  }
  size_t len = tag % 7 == 0 ? 0 : tag % 1009 == 1 ? 200000 + tag : tag % 257;
  if (tag % 11 != 0) record->value = bytes_of(pattern + tag % 251, len);
  size_t headers = tag % 3 == 0 ? 0 : tag % 101 == 1 ? MAX_HEADERS : tag % 4;
  if (headers > 0) {
    snprintf(sample->header_key, sizeof sample->header_key, "h%llu", (unsigned long long)tag);
    for (size_t i = 0; i < headers; i++) {
      producer_header_t *header = &sample->headers[i];
      header->key = i == 1 ? producer_str("") : i == 2 ? producer_str(unicode)
                                                       : producer_str(sample->header_key);
      if (i % 3 != 1) header->value = bytes_of(pattern + i, i % 3 == 2 ? 0 : i + 1);
    }
    record->headers = sample->headers;
    record->header_count = headers;
  }
  if (tag % 2) {
    record->flags |= PRODUCER_RECORD_HAS_TIMESTAMP;
    record->timestamp_ms = 1600000000000 + (int64_t)tag * 7919 % 100000;
  }
  if (tag % 4 == 3) {
    record->flags |= PRODUCER_RECORD_HAS_PARTITION;
    record->partition = (int32_t)(tag / 4 % PARTITIONS);
  }
}

typedef struct {
  ledger_t ledger;
  int32_t *partition;
  int64_t *offset;
} places_t;

static void on_deliveries(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  places_t *places = user_data;
  ledger_callback(deliveries, count, &places->ledger);
  for (size_t i = 0; i < count; i++) {
    const producer_delivery_t *d = &deliveries[i];
    CHECK(same_bytes(producer_str("send"), d->topic));
    CHECK_EQ(-1, d->append_time_ms);
    for (uint32_t j = 0; j < d->count; j++) {
      places->partition[d->tags[j]] = d->partition;
      places->offset[d->tags[j]] = d->base_offset < 0 ? -1 : d->base_offset + j;
    }
  }
}

static void compare(producer_mock_cluster_t *cluster, const places_t *places, int64_t since_ms) {
  static bool taken[PARTITIONS][RECORDS];
  memset(taken, 0, sizeof taken);
  int64_t total = 0;
  for (int32_t p = 0; p < PARTITIONS; p++)
    total += producer_mock_cluster_end_offset(cluster, producer_str("send"), p);
  CHECK_EQ(RECORDS, total);
  for (uint64_t tag = 0; tag < RECORDS; tag++) {
    sample_t sample;
    make(&sample, tag);
    int32_t partition = places->partition[tag];
    int64_t offset = places->offset[tag];
    CHECK(partition >= 0 && partition < PARTITIONS && offset >= 0 && offset < RECORDS);
    CHECK(!taken[partition][offset]);
    taken[partition][offset] = true;
    producer_record_t got;
    CHECK(producer_mock_cluster_read(cluster, producer_str("send"), partition, offset, &got));
    const producer_record_t *sent = &sample.record;
    if (!same_bytes(sent->key, got.key)) FAIL("tag %d: another key", (int)tag);
    if (!same_bytes(sent->value, got.value)) FAIL("tag %d: another value", (int)tag);
    CHECK_EQ(sent->header_count, got.header_count);
    for (size_t i = 0; i < sent->header_count; i++) {
      CHECK(same_bytes(sent->headers[i].key, got.headers[i].key));
      CHECK(same_bytes(sent->headers[i].value, got.headers[i].value));
    }
    if (sent->flags & PRODUCER_RECORD_HAS_TIMESTAMP) {
      CHECK_EQ(sent->timestamp_ms, got.timestamp_ms);
    } else {
      CHECK(got.timestamp_ms >= since_ms && got.timestamp_ms < since_ms + 3600000);
    }
    if (sent->flags & PRODUCER_RECORD_HAS_PARTITION) CHECK_EQ(sent->partition, partition);
  }
  producer_record_t got;
  CHECK(!producer_mock_cluster_read(cluster, producer_str("send"), 0, RECORDS, &got));
}

/* Sends all of them: alone, without waiting, in batches; from one thread, in order. */
static void send_all(producer_t *producer) {
  enum { BATCH = 100 };
  static sample_t samples[BATCH];
  producer_record_t records[BATCH];
  producer_error_t error;
  for (uint64_t first = 0; first < RECORDS; first += BATCH) {
    for (int i = 0; i < BATCH; i++) {
      make(&samples[i], first + (uint64_t)i);
      records[i] = samples[i].record;
    }
    int way = (int)(first / BATCH % 3);
    if (way == 0) {
      size_t accepted = 0;
      CHECK_OK(producer_send_batch(producer, records, BATCH, -1, &accepted, &error));
      CHECK_EQ(BATCH, accepted);
    }
    for (int i = 0; way == 1 && i < BATCH; i++)
      CHECK_OK(producer_send(producer, &records[i], &error));
    for (int i = 0; way == 2 && i < BATCH; i++) {
      producer_status_t status;
      while ((status = producer_try_send(producer, &records[i], &error)) ==
                 PRODUCER_ERR_BUFFER_FULL ||
             status == PRODUCER_ERR_METADATA_PENDING) {
        CHECK(error.flags & PRODUCER_RETRIABLE);
        sleep_ms(1);
      }
      CHECK_OK(status);
    }
    /* Copied: what the caller does with its memory afterwards is its own business. */
    memset(samples, 0x55, sizeof samples);
  }
}

static void one_run(const char *acks, const char *linger, const char *buffer_memory) {
  producer_error_t error;
  producer_mock_cluster_t *cluster = new_cluster(3);
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("send"),
                                                               PARTITIONS));
  places_t places;
  ledger_init(&places.ledger, RECORDS);
  places.partition = calloc(RECORDS, sizeof *places.partition);
  places.offset = calloc(RECORDS, sizeof *places.offset);
  CHECK(places.partition && places.offset);

  producer_config_t *config = config_for(cluster);
  set_key(config, "acks", acks);
  set_key(config, "linger.ms", linger);
  set_key(config, "buffer.memory", buffer_memory);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, on_deliveries, &places));
  producer_t *producer = start(config);

  int64_t since_ms = (int64_t)time(NULL) * 1000;
  send_all(producer);
  CHECK_OK(producer_flush(producer, LONG_MS, &error));
  CHECK_LEDGER(&places.ledger, 0);
  CHECK_COUNTERS(producer, RECORDS, 0);
  if (strcmp(acks, "0") != 0) compare(cluster, &places, since_ms);

  producer_counters_t counters;
  CHECK_STATUS(PRODUCER_OK, producer_get_counters(producer, &counters));
  CHECK_EQ(0, counters.buffered_bytes);
  CHECK_EQ(strtoll(buffer_memory, NULL, 10), counters.buffer_limit_bytes);

  uint64_t aborted = 77;
  CHECK_OK(producer_close(producer, -1, &aborted, &error));
  CHECK_EQ(0, aborted);
  producer_free(producer);
  producer_mock_cluster_free(cluster);
  ledger_free(&places.ledger);
  free(places.partition);
  free(places.offset);
}

/* send_sync gives the place, and nothing of it reaches the delivery callback. */
static void send_and_wait(void) {
  producer_error_t error;
  producer_mock_cluster_t *cluster = new_cluster(2);
  ledger_t ledger;
  ledger_init(&ledger, 0);
  producer_config_t *config = config_for(cluster);
  set_key(config, "linger.ms", "60000"); /* who waited for that would be too late */
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, ledger_callback,
                                                                  &ledger));
  producer_t *producer = start(config);
  for (int i = 0; i < 20; i++) {
    sample_t sample;
    make(&sample, (uint64_t)i * 5);
    sample.record.topic = producer_str("sync");
    sample.record.flags &= ~(uint32_t)PRODUCER_RECORD_HAS_PARTITION;
    producer_receipt_t receipt;
    memset(&receipt, 0x55, sizeof receipt);
    CHECK_OK(producer_send_sync(producer, &sample.record, 30000, &receipt, &error));
    CHECK_EQ(0, receipt.partition);
    CHECK_EQ(0, receipt.reserved);
    CHECK_EQ(i, receipt.offset);
    producer_record_t got;
    CHECK(producer_mock_cluster_read(cluster, producer_str("sync"), 0, i, &got));
    CHECK_EQ(got.timestamp_ms, receipt.timestamp_ms);
    CHECK(same_bytes(sample.record.value, got.value));
  }
  CHECK_OK(producer_flush(producer, 0, &error));
  CHECK_EQ(0, ledger.reported);
  CHECK_COUNTERS(producer, 20, 0);

  /* A refusal comes back as the call's own error. */
  int32_t codes[] = {PRODUCER_ERR_TOPIC_AUTHORIZATION_FAILED};
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_push_errors(cluster, 0, codes, 1));
  producer_record_t record = {.topic = producer_str("sync")};
  producer_receipt_t receipt;
  CHECK_FAILS(PRODUCER_ERR_TOPIC_AUTHORIZATION_FAILED,
              producer_send_sync(producer, &record, 30000, &receipt, &error));
  CHECK_COUNTERS(producer, 20, 1);
  producer_free(producer);
  producer_mock_cluster_free(cluster);
  ledger_free(&ledger);
}

int main(void) {
  for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (uint8_t)(i * 31 + i / 256);
  one_run("all", "5", "33554432");
  one_run("1", "0", "4000000");
  one_run("0", "5", "33554432");
  send_and_wait();
  return 0;
}
