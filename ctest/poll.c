/* Poll mode: the descriptor, one thread at a time, memory valid until the next poll, the records of
 * a failed delivery, and the end after close. */
#include "support.h"

#include <poll.h>

#define RECORDS 5000

static bool readable(producer_t *producer, int timeout_ms) {
  struct pollfd fd = {.fd = producer_poll_fd(producer), .events = POLLIN};
  CHECK(fd.fd >= 0);
  int ready = poll(&fd, 1, timeout_ms);
  CHECK(ready >= 0);
  return ready == 1;
}

static producer_t *start_polled(producer_mock_cluster_t *cluster) {
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
  CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
  return start(config);
}

/* Batches stay open until a flush cuts their linger, however slow the test's own thread is. */
static producer_t *start_lingering(producer_mock_cluster_t *cluster, const char *linger_ms) {
  producer_config_t *config = config_for(cluster);
  set_key(config, "linger.ms", linger_ms);
  CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
  return start(config);
}

/* As an event loop does it: wait on the descriptor, poll until less than asked for comes. */
static void event_loop(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  ledger_t ledger;
  ledger_init(&ledger, RECORDS);
  producer_t *producer = start_polled(cluster);
  CHECK(!readable(producer, 0));
  for (uint64_t tag = 0; tag < RECORDS; tag++) {
    producer_record_t record = {.topic = producer_str("loop"), .tag = tag};
    CHECK_OK(producer_send(producer, &record, &error));
  }
  enum { CAPACITY = 3 };
  producer_delivery_t deliveries[CAPACITY];
  while (ledger.reported < RECORDS) {
    if (!readable(producer, 30000)) FAIL("%zu of %d came", ledger.reported, RECORDS);
    size_t count;
    do {
      memset(deliveries, 0x55, sizeof deliveries);
      CHECK_STATUS(PRODUCER_OK, producer_poll(producer, deliveries, CAPACITY, 0, &count));
      for (size_t i = 0; i < count; i++) ledger_enter(&ledger, &deliveries[i]);
    } while (count == CAPACITY);
  }
  CHECK(!readable(producer, 20));
  size_t count = 77;
  CHECK_STATUS(PRODUCER_OK, producer_poll(producer, deliveries, CAPACITY, 0, &count));
  CHECK_EQ(0, count);
  int64_t begin = now_ms();
  CHECK_STATUS(PRODUCER_OK, producer_poll(producer, deliveries, CAPACITY, 50, &count));
  CHECK_EQ(0, count);
  CHECK(now_ms() - begin >= 45);
  CHECK_LEDGER(&ledger, 0);
  CHECK_COUNTERS(producer, RECORDS, 0);
  producer_free(producer);
  ledger_free(&ledger);
}

/* The records of a failed delivery come back as they were sent, and can be sent again. */
static void failed_records(producer_mock_cluster_t *cluster) {
  enum { COUNT = 40 };
  producer_error_t error;
  producer_slice_t topic = producer_str("failed");
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, topic, 1));
  producer_t *producer = start_lingering(cluster, "60000");
  int32_t codes[] = {PRODUCER_ERR_INVALID_RECORD};
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_push_errors(cluster, 0, codes, 1));

  char keys[COUNT][16];
  producer_header_t headers[2] = {{producer_str("a"), producer_str("b")}, {producer_str(""), {0}}};
  producer_record_t records[COUNT];
  memset(records, 0, sizeof records);
  for (int i = 0; i < COUNT; i++) {
    snprintf(keys[i], sizeof keys[i], "key %d", i);
    records[i].topic = topic;
    if (i % 3) records[i].key = producer_str(keys[i]);
    if (i % 4) records[i].value = bytes_of(keys[i], (size_t)i % 5);
    records[i].headers = headers;
    records[i].header_count = (size_t)i % 3;
    records[i].tag = 1000 + (uint64_t)i;
    records[i].flags = PRODUCER_RECORD_HAS_TIMESTAMP;
    records[i].timestamp_ms = 1234567 + i * 1000;
  }
  size_t accepted;
  CHECK_OK(producer_send_batch(producer, records, COUNT, -1, &accepted, &error));
  CHECK_OK(producer_flush(producer, 30000, &error));

  producer_delivery_t delivery;
  size_t count;
  int at = 0;
  while (at < COUNT) {
    CHECK_STATUS(PRODUCER_OK, producer_poll(producer, &delivery, 1, 10000, &count));
    CHECK_EQ(1, count);
    if (delivery.status == PRODUCER_OK) FAIL("record %d was written", at);
    CHECK_EQ(PRODUCER_ERR_INVALID_RECORD, delivery.status);
    CHECK(!(delivery.flags & PRODUCER_MAYBE_PERSISTED));
    CHECK_EQ(-1, delivery.base_offset);
    const producer_failure_t *failure = delivery.failure;
    CHECK(failure && failure->message[0]);
    CHECK_EQ(PRODUCER_STAGE_ANSWERED, failure->stage);
    CHECK_EQ(1, failure->attempts);
    CHECK_EQ(1, failure->node);
    CHECK_EQ(PRODUCER_ERR_INVALID_RECORD, failure->broker_status);
    CHECK_TEXT("", failure->network_error);
    CHECK(failure->queued_ms >= 0 && failure->in_flight_ms >= 0);

    producer_cursor_t cursor = {0}, again = {0};
    producer_record_t got, first;
    CHECK(producer_delivery_next(&delivery, &again, &first));
    /* A copy of the delivery is as good as the delivery. */
    producer_delivery_t copy = delivery;
    for (uint32_t i = 0; i < delivery.count; i++, at++) {
      memset(&got, 0x55, sizeof got);
      CHECK(producer_delivery_next(&copy, &cursor, &got));
      const producer_record_t *sent = &records[at];
      CHECK_EQ(sent->tag, got.tag);
      CHECK_EQ(sent->tag, delivery.tags[i]);
      CHECK(same_bytes(topic, got.topic));
      CHECK(same_bytes(sent->key, got.key));
      CHECK(same_bytes(sent->value, got.value));
      CHECK_EQ(sent->timestamp_ms, got.timestamp_ms);
      CHECK_EQ(0, got.partition);
      CHECK_EQ(PRODUCER_RECORD_HAS_PARTITION | PRODUCER_RECORD_HAS_TIMESTAMP |
                   PRODUCER_RECORD_AS_IS, got.flags);
      CHECK_EQ(sent->header_count, got.header_count);
      for (size_t h = 0; h < got.header_count; h++) {
        CHECK(same_bytes(sent->headers[h].key, got.headers[h].key));
        CHECK(same_bytes(sent->headers[h].value, got.headers[h].value));
      }
      CHECK_EQ(0, got.timeout_ms);
      CHECK(got.extension == NULL);
      CHECK_OK(producer_try_send(producer, &got, &error));
    }
    got = first;
    CHECK(!producer_delivery_next(&delivery, &cursor, &got));
    CHECK_EQ(first.tag, got.tag);
  }
  CHECK_OK(producer_flush(producer, 30000, &error));
  CHECK_EQ(COUNT, producer_mock_cluster_end_offset(cluster, topic, 0));
  producer_free(producer); /* with deliveries that nobody polled */
}

/* Two of four records of a batch have a timeout of their own and reach it while the batch is in
 * flight: they are reported, together if they were sent in one millisecond, and theirs alone are a
 * delivery's records. The others get the outcome, a delivery for each run of offsets. */
static void own_timeouts(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  producer_slice_t topic = producer_str("timeouts");
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, topic, 1));
  /* Shorter than their timeouts: a record that would not live to see its end ends it. */
  producer_t *producer = start_lingering(cluster, "2000");
  producer_record_t record = {.topic = topic, .value = producer_str("first"), .tag = 9};
  CHECK_OK(producer_send_sync(producer, &record, 30000, &(producer_receipt_t){0}, &error));

  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, true, false, 4000, 0));
  const char *values[] = {"a", "b", "c", "d"};
  for (int i = 0; i < 4; i++) {
    record.value = producer_str(values[i]);
    record.tag = (uint64_t)i;
    record.timeout_ms = i % 2 ? 2500 : 0;
    CHECK_OK(producer_send(producer, &record, &error));
  }
  CHECK_FAILS(PRODUCER_ERR_TIMED_OUT, producer_flush(producer, 0, &error));
  producer_delivery_t delivery;
  size_t count;
  producer_record_t got;
  for (uint32_t timed_out = 0; timed_out < 2;) {
    CHECK_STATUS(PRODUCER_OK, producer_poll(producer, &delivery, 1, 10000, &count));
    CHECK_EQ(1, count);
    CHECK_EQ(PRODUCER_ERR_DELIVERY_TIMED_OUT, delivery.status);
    CHECK(delivery.flags & PRODUCER_MAYBE_PERSISTED);
    CHECK_EQ(PRODUCER_STAGE_IN_FLIGHT, delivery.failure->stage);
    producer_cursor_t cursor = {0};
    for (uint32_t i = 0; i < delivery.count; i++, timed_out++) {
      CHECK_EQ(2 * timed_out + 1, delivery.tags[i]);
      CHECK(producer_delivery_next(&delivery, &cursor, &got));
      CHECK_EQ(2 * timed_out + 1, got.tag);
      CHECK(same_bytes(producer_str(values[2 * timed_out + 1]), got.value));
    }
    CHECK(!producer_delivery_next(&delivery, &cursor, &got));
  }
  for (uint32_t i = 0; i < 2; i++) {
    CHECK_STATUS(PRODUCER_OK, producer_poll(producer, &delivery, 1, 10000, &count));
    CHECK_EQ(1, count);
    CHECK_EQ(PRODUCER_OK, delivery.status);
    CHECK_EQ(1, delivery.count);
    CHECK_EQ(2 * i, delivery.tags[0]);
    CHECK_EQ(1 + 2 * i, delivery.base_offset);
  }
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, true, false, 0, 0));
  producer_free(producer);
}

static void kept_records(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  producer_config_t *config = config_for(cluster);
  set_key(config, "delivery.keep.records", "true");
  CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
  producer_t *producer = start(config);
  producer_record_t record = {.topic = producer_str("kept"), .value = producer_str("here")};
  CHECK_OK(producer_send(producer, &record, &error));
  producer_delivery_t delivery;
  size_t count;
  CHECK_STATUS(PRODUCER_OK, producer_poll(producer, &delivery, 1, 10000, &count));
  CHECK_EQ(1, count);
  CHECK_EQ(PRODUCER_OK, delivery.status);
  producer_cursor_t cursor = {0};
  producer_record_t got;
  CHECK(producer_delivery_next(&delivery, &cursor, &got));
  CHECK(same_bytes(record.value, got.value));
  CHECK(!producer_delivery_next(&delivery, &cursor, &got));
  producer_free(producer);
}

typedef struct {
  producer_t *producer;
  atomic_int status;
} poller_t;

static void *poll_for_ever(void *argument) {
  poller_t *poller = argument;
  producer_delivery_t delivery;
  size_t count = 77;
  producer_status_t status;
  /* It is the other one's poll that may be in progress. */
  do status = producer_poll(poller->producer, &delivery, 1, -1, &count);
  while (status == PRODUCER_ERR_INVALID_STATE);
  atomic_store(&poller->status, status);
  return NULL;
}

/* A second poll at the same time is refused; closing ends one that waits. */
static void one_at_a_time(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  poller_t poller = {.producer = start_polled(cluster), .status = 1};
  pthread_t thread;
  CHECK_EQ(0, pthread_create(&thread, NULL, poll_for_ever, &poller));
  producer_delivery_t delivery;
  size_t count;
  producer_status_t status = PRODUCER_OK;
  EVENTUALLY((status = producer_poll(poller.producer, &delivery, 1, 0, &count)) != PRODUCER_OK);
  CHECK_EQ(PRODUCER_ERR_INVALID_STATE, status);
  CHECK_OK(producer_close(poller.producer, 0, NULL, &error));
  CHECK_EQ(0, pthread_join(thread, NULL));
  CHECK_EQ(PRODUCER_ERR_CLOSED, poller.status);
  producer_free(poller.producer);
}

/* After close what was not polled can be; then the end is told, again and again. */
static void drained_after_close(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  ledger_t ledger;
  ledger_init(&ledger, 10);
  producer_t *producer = start_polled(cluster);
  for (uint64_t tag = 0; tag < 10; tag++) {
    char topic[] = {'d', (char)('0' + tag), 0};
    producer_record_t record = {.topic = producer_str(topic), .tag = tag};
    CHECK_OK(producer_send(producer, &record, &error));
  }
  uint64_t aborted = 77;
  CHECK_OK(producer_close(producer, 30000, &aborted, &error));
  CHECK_EQ(0, aborted);
  producer_record_t record = {.topic = producer_str("late")};
  CHECK_FAILS(PRODUCER_ERR_CLOSED, producer_send(producer, &record, &error));
  CHECK(readable(producer, 0));
  producer_status_t status;
  producer_delivery_t delivery;
  size_t count;
  while ((status = producer_poll(producer, &delivery, 1, -1, &count)) == PRODUCER_OK) {
    CHECK_EQ(1, count);
    ledger_enter(&ledger, &delivery);
  }
  CHECK_EQ(PRODUCER_ERR_CLOSED, status);
  CHECK_LEDGER(&ledger, 0);
  CHECK(readable(producer, 0));
  CHECK_STATUS(PRODUCER_ERR_CLOSED, producer_poll(producer, &delivery, 1, -1, &count));
  producer_free(producer);
  ledger_free(&ledger);
}

static void without_poll_mode(producer_mock_cluster_t *cluster) {
  producer_t *producer = start(config_for(cluster));
  producer_delivery_t delivery;
  size_t count;
  CHECK_EQ(-1, producer_poll_fd(producer));
  CHECK_STATUS(PRODUCER_ERR_INVALID_STATE, producer_poll(producer, &delivery, 1, 0, &count));
  producer_free(producer);

  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
  CHECK_STATUS(PRODUCER_ERR_INVALID_STATE,
               producer_config_set_delivery_callback(config, ledger_callback, NULL));
  producer_config_free(config);
  config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, ledger_callback, NULL));
  CHECK_STATUS(PRODUCER_ERR_INVALID_STATE, producer_config_enable_poll(config));
  producer_config_free(config);
}

int main(void) {
  producer_mock_cluster_t *cluster = new_cluster(1);
  event_loop(cluster);
  failed_records(cluster);
  own_timeouts(cluster);
  kept_records(cluster);
  one_at_a_time(cluster);
  drained_after_close(cluster);
  without_poll_mode(cluster);
  producer_mock_cluster_free(cluster);
  return 0;
}
