/*
 * produce: sends the records that stand in its input, and tells what became of each. The Python
 * tests beside it write the one and read the other.
 *
 *   produce [--batch | --sync] [--poll] [-X KEY=VALUE]... < records > outcomes
 *
 * A record is, in the machine's byte order: partition (int32, -1: the partitioner chooses),
 * timestamp_ms (int64, -1: the time of the call), topic, key and value (each int32 length, -1:
 * null, and the bytes), the number of headers (int32) and for each its key and value. Its tag is
 * its place in the input, from 0. A partition of -2 is no record and has nothing behind it: it
 * flushes what was sent so far.
 *
 * An outcome is a line of fields between tabs:
 *   delivered TAG TOPIC PARTITION OFFSET APPEND_TIME_MS
 *   failed    TAG TOPIC PARTITION STATUS FLAGS STAGE ATTEMPTS MESSAGE
 *   refused   TAG STATUS FLAGS MESSAGE                                       the call itself failed
 *   closed    ABORTED ACCEPTED ACKNOWLEDGED FAILED PENDING                   always the last line
 * The library's log goes to stderr.
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <kafka_producer.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_RECORDS = 64, POLL_DELIVERIES = 64, MAX_HEADERS = 1024, FLUSH = -2 };

/* A record and the memory that it points into. */
typedef struct {
  producer_record_t record;
  uint8_t *bytes;
  size_t used, size;
  producer_header_t headers[MAX_HEADERS];
} frame_t;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "produce: %s: %s\n", what, why);
  exit(2);
}

static void check(producer_status_t status, const char *what, const producer_error_t *error) {
  if (status != PRODUCER_OK)
    fail(what, error != NULL ? error->message : producer_status_message(status));
}

/* ---- Outcomes ---- */

static void report(const producer_delivery_t *delivery) {
  for (uint32_t i = 0; i < delivery->count; i++) {
    if (delivery->status == PRODUCER_OK) {
      printf("delivered\t%" PRIu64 "\t%.*s\t%" PRId32 "\t%" PRId64 "\t%" PRId64 "\n",
             delivery->tags[i], (int)delivery->topic.len, (const char *)delivery->topic.data,
             delivery->partition,
             delivery->base_offset < 0 ? delivery->base_offset : delivery->base_offset + (int64_t)i,
             delivery->append_time_ms);
    } else {
      printf("failed\t%" PRIu64 "\t%.*s\t%" PRId32 "\t%s\t%" PRIu32 "\t%" PRId32 "\t%" PRId32
             "\t%s\n",
             delivery->tags[i], (int)delivery->topic.len, (const char *)delivery->topic.data,
             delivery->partition, producer_status_name(delivery->status), delivery->flags,
             delivery->failure->stage, delivery->failure->attempts, delivery->failure->message);
    }
  }
}

static void refused(uint64_t tag, producer_status_t status, const producer_error_t *error) {
  printf("refused\t%" PRIu64 "\t%s\t%" PRIu32 "\t%s\n", tag, producer_status_name(status),
         error->flags, error->message);
  fflush(stdout);
}

static void on_deliveries(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  (void)user_data;
  for (size_t i = 0; i < count; i++) report(&deliveries[i]);
  fflush(stdout);
}

static void *poll_deliveries(void *producer) {
  producer_delivery_t deliveries[POLL_DELIVERIES];
  size_t count = 0;
  producer_status_t status;
  while ((status = producer_poll(producer, deliveries, POLL_DELIVERIES, -1, &count)) ==
         PRODUCER_OK) {
    on_deliveries(deliveries, count, NULL);
  }
  if (status != PRODUCER_ERR_CLOSED) check(status, "producer_poll", NULL);
  return NULL;
}

static void on_log(producer_log_level_t level, const char *target, const char *message,
                   void *user_data) {
  (void)user_data;
  fprintf(stderr, "[%d] %s: %s\n", (int)level, target, message);
}

/* ---- Records ---- */

/* False at the end of the input. */
static bool read_bytes(void *into, size_t size) {
  size_t got = fread(into, 1, size, stdin);
  if (got != size && got != 0) fail("input", "cut off in a record");
  return got == size || size == 0;
}

static int32_t read_int32(void) {
  int32_t value = 0;
  if (!read_bytes(&value, sizeof value)) fail("input", "cut off in a record");
  return value;
}

/* A slice whose data is an offset into the frame's bytes, since those may still move. */
static producer_slice_t read_slice(frame_t *frame) {
  int32_t len = read_int32();
  if (len < 0) return (producer_slice_t){ NULL, 0 };
  size_t at = frame->used;
  if (at + (size_t)len + 1 > frame->size) {
    frame->size = 2 * frame->size + (size_t)len + 1;
    frame->bytes = realloc(frame->bytes, frame->size);
    if (frame->bytes == NULL) fail("input", "out of memory");
  }
  if (!read_bytes(frame->bytes + at, (size_t)len)) fail("input", "cut off in a record");
  frame->used += (size_t)len;
  return (producer_slice_t){ (const uint8_t *)(uintptr_t)(at + 1), (size_t)len };
}

static void settle(const frame_t *frame, producer_slice_t *slice) {
  if (slice->data != NULL) slice->data = frame->bytes + ((uintptr_t)slice->data - 1);
}

static void flush(producer_t *producer) {
  producer_error_t error;
  check(producer_flush(producer, PRODUCER_TIMEOUT_DEFAULT, &error), "producer_flush", &error);
}

static bool read_frame(producer_t *producer, frame_t *frame, uint64_t tag) {
  int32_t partition = 0;
  do {
    if (!read_bytes(&partition, sizeof partition)) return false;
    if (partition == FLUSH) flush(producer);
  } while (partition == FLUSH);
  frame->used = 0;
  producer_record_t *record = &frame->record;
  *record = (producer_record_t){ .tag = tag, .headers = frame->headers };
  if (partition >= 0) {
    record->partition = partition;
    record->flags |= PRODUCER_RECORD_HAS_PARTITION;
  }
  int64_t timestamp_ms = 0;
  if (!read_bytes(&timestamp_ms, sizeof timestamp_ms)) fail("input", "cut off in a record");
  if (timestamp_ms >= 0) {
    record->timestamp_ms = timestamp_ms;
    record->flags |= PRODUCER_RECORD_HAS_TIMESTAMP;
  }
  record->topic = read_slice(frame);
  record->key = read_slice(frame);
  record->value = read_slice(frame);
  int32_t header_count = read_int32();
  if (header_count < 0 || header_count > MAX_HEADERS) fail("input", "too many headers");
  record->header_count = (size_t)header_count;
  for (size_t i = 0; i < record->header_count; i++) {
    frame->headers[i].key = read_slice(frame);
    frame->headers[i].value = read_slice(frame);
  }
  settle(frame, &record->topic);
  settle(frame, &record->key);
  settle(frame, &record->value);
  for (size_t i = 0; i < record->header_count; i++) {
    settle(frame, &frame->headers[i].key);
    settle(frame, &frame->headers[i].value);
  }
  return true;
}

static frame_t *new_frames(size_t count) {
  frame_t *frames = calloc(count, sizeof *frames);
  if (frames == NULL) fail("start", "out of memory");
  return frames;
}

static void free_frames(frame_t *frames, size_t count) {
  for (size_t i = 0; i < count; i++) free(frames[i].bytes);
  free(frames);
}

/* ---- Ways to send ---- */

static void send_each(producer_t *producer) {
  frame_t *frame = new_frames(1);
  producer_error_t error;
  for (uint64_t tag = 0; read_frame(producer, frame, tag); tag++) {
    producer_status_t status = producer_send(producer, &frame->record, &error);
    if (status != PRODUCER_OK) refused(tag, status, &error);
  }
  free_frames(frame, 1);
}

static void send_each_and_wait(producer_t *producer) {
  frame_t *frame = new_frames(1);
  producer_error_t error;
  producer_receipt_t receipt;
  for (uint64_t tag = 0; read_frame(producer, frame, tag); tag++) {
    producer_status_t status =
        producer_send_sync(producer, &frame->record, PRODUCER_TIMEOUT_DEFAULT, &receipt, &error);
    if (status != PRODUCER_OK) {
      refused(tag, status, &error);
      continue;
    }
    printf("delivered\t%" PRIu64 "\t%.*s\t%" PRId32 "\t%" PRId64 "\t-1\n", tag,
           (int)frame->record.topic.len, (const char *)frame->record.topic.data, receipt.partition,
           receipt.offset);
    fflush(stdout);
  }
  free_frames(frame, 1);
}

static void send_batches(producer_t *producer) {
  frame_t *frames = new_frames(BATCH_RECORDS);
  producer_record_t records[BATCH_RECORDS];
  producer_error_t error;
  uint64_t tag = 0;
  size_t count = 0;
  do {
    for (count = 0; count < BATCH_RECORDS; count++, tag++) {
      if (!read_frame(producer, &frames[count], tag)) break;
      records[count] = frames[count].record;
    }
    for (size_t done = 0; done < count;) {
      size_t accepted = 0;
      producer_status_t status = producer_send_batch(producer, records + done, count - done,
                                                     PRODUCER_TIMEOUT_DEFAULT, &accepted, &error);
      done += accepted;
      if (status != PRODUCER_OK) refused(records[done++].tag, status, &error);
    }
  } while (count == BATCH_RECORDS);
  free_frames(frames, BATCH_RECORDS);
}

/* ---- */

static void set(producer_config_t *config, char *pair) {
  producer_error_t error;
  char *equals = strchr(pair, '=');
  if (equals == NULL) fail(pair, "wants KEY=VALUE");
  *equals = '\0';
  check(producer_config_set(config, pair, equals + 1, &error), pair, &error);
}

int main(int argc, char **argv) {
  void (*send_all)(producer_t *) = send_each;
  bool poll = false;
  producer_error_t error;
  producer_config_t *config = producer_config_new();
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--batch") == 0) send_all = send_batches;
    else if (strcmp(argv[i], "--sync") == 0) send_all = send_each_and_wait;
    else if (strcmp(argv[i], "--poll") == 0) poll = true;
    else if (strcmp(argv[i], "-X") == 0 && i + 1 < argc) set(config, argv[++i]);
    else fail(argv[i], "unknown argument");
  }
  if (poll) check(producer_config_enable_poll(config), "enable_poll", NULL);
  else
    check(producer_config_set_delivery_callback(config, on_deliveries, NULL),
          "set_delivery_callback", NULL);
  check(producer_config_set_log_callback(config, PRODUCER_LOG_INFO, on_log, NULL),
        "set_log_callback", NULL);

  producer_t *producer = NULL;
  check(producer_new(config, &producer, &error), "producer_new", &error);
  producer_config_free(config);
  pthread_t poller;
  if (poll && pthread_create(&poller, NULL, poll_deliveries, producer) != 0)
    fail("pthread_create", "no thread");

  send_all(producer);
  flush(producer);
  uint64_t aborted = 0;
  producer_counters_t counters;
  check(producer_get_counters(producer, &counters), "producer_get_counters", NULL);
  check(producer_close(producer, PRODUCER_TIMEOUT_DEFAULT, &aborted, &error), "producer_close",
        &error);
  if (poll) pthread_join(poller, NULL);
  printf("closed\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", aborted,
         counters.accepted, counters.acknowledged, counters.failed, counters.pending);
  producer_free(producer);
  return 0;
}
