/* Interceptors and serializers through their tables: what is refused, what they are given, what
 * they may do to a record, and the memory they get. */
#include "support.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* As a program has them that was compiled against a header to come. */
typedef struct {
  producer_interceptor_t known;
  void (*newer)(void *user_data);
} longer_interceptor_t;
typedef struct {
  producer_serializer_t known;
  void (*newer)(void *user_data);
} longer_serializer_t;

static producer_status_t as_is(producer_slice_t topic, producer_slice_t input,
                               producer_slice_t *output, producer_arena_t *arena, void *user_data) {
  (void)topic, (void)arena, (void)user_data;
  *output = input;
  return PRODUCER_OK;
}

/* ---- Tables ---- */

static void never(void *user_data) {
  (void)user_data;
  FAIL("this is not to be called");
}

static void tables(producer_mock_cluster_t *cluster) {
  const producer_status_t bad = PRODUCER_ERR_INVALID_ARGUMENT;
  producer_config_t *config = config_for(cluster);
  producer_interceptor_t interceptor = {.struct_size = sizeof interceptor};
  producer_serializer_t serializer = {.struct_size = sizeof serializer, .serialize = as_is};
  CHECK_STATUS(bad, producer_config_add_interceptor(NULL, &interceptor));
  CHECK_STATUS(bad, producer_config_add_interceptor(config, NULL));
  CHECK_STATUS(bad, producer_config_set_key_serializer(NULL, &serializer));
  CHECK_STATUS(bad, producer_config_set_key_serializer(config, NULL));
  CHECK_STATUS(bad, producer_config_set_value_serializer(NULL, &serializer));
  CHECK_STATUS(bad, producer_config_set_value_serializer(config, NULL));
  CHECK(producer_arena_alloc(NULL, 1) == NULL);
  const size_t none[] = {0, 1, sizeof(size_t), sizeof interceptor - 1, 1 << 20, SIZE_MAX};
  for (size_t i = 0; i < LENGTH(none); i++) {
    interceptor.struct_size = none[i];
    CHECK_STATUS(bad, producer_config_add_interceptor(config, &interceptor));
    serializer.struct_size = none[i] == sizeof interceptor - 1 ? sizeof serializer - 1 : none[i];
    CHECK_STATUS(bad, producer_config_set_key_serializer(config, &serializer));
    CHECK_STATUS(bad, producer_config_set_value_serializer(config, &serializer));
  }
  serializer.struct_size = sizeof serializer;
  serializer.serialize = NULL;
  CHECK_STATUS(bad, producer_config_set_key_serializer(config, &serializer));
  CHECK_STATUS(bad, producer_config_set_value_serializer(config, &serializer));
  serializer.serialize = as_is;
  /* Of a newer header: fine as long as nothing is asked for that this library does not know. */
  longer_interceptor_t longer = {.known = {.struct_size = sizeof longer}, .newer = never};
  CHECK_STATUS(bad, producer_config_add_interceptor(config, &longer.known));
  longer.newer = NULL;
  CHECK_STATUS(PRODUCER_OK, producer_config_add_interceptor(config, &longer.known));
  longer_serializer_t longer_one = {.known = serializer};
  longer_one.known.struct_size = sizeof longer_one;
  longer_one.newer = never;
  CHECK_STATUS(bad, producer_config_set_key_serializer(config, &longer_one.known));
  longer_one.newer = NULL;
  CHECK_STATUS(PRODUCER_OK, producer_config_set_key_serializer(config, &longer_one.known));
  /* All functions NULL: an interceptor that does nothing. As many as there may be. */
  interceptor.struct_size = sizeof interceptor;
  for (int i = 1; i < 64; i++)
    CHECK_STATUS(PRODUCER_OK, producer_config_add_interceptor(config, &interceptor));
  CHECK_STATUS(bad, producer_config_add_interceptor(config, &interceptor));
  producer_error_t error;
  producer_t *producer = start(config);
  producer_record_t record = {.topic = producer_str("t"), .value = producer_str("x")};
  producer_receipt_t receipt;
  CHECK_OK(producer_send_sync(producer, &record, 30000, &receipt, &error));
  producer_free(producer);
}

static void contradictions(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  producer_serializer_t serializer = {.struct_size = sizeof serializer, .serialize = as_is};
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_value_serializer(config, &serializer));
  set_key(config, "value.serializer", "bytes");
  producer_t *producer = NULL;
  CHECK_FAILS(PRODUCER_ERR_INVALID_CONFIG, producer_new(config, &producer, &error));
  CHECK(strstr(error.message, "value.serializer=bytes contradicts "
                              "producer_config_set_value_serializer()"));
  producer_config_free(config);
}

/* ---- What they are given, and give ---- */

enum { HEADERS = 20 };

typedef struct {
  atomic_int configured, sent, acknowledged, refused, serialized, closed, closed_serializers;
  int number;
} state_t;

static producer_status_t configure(const producer_config_t *config, void *user_data) {
  state_t *state = user_data;
  const char *number = producer_config_get(config, "interceptor.number");
  if (!number) return PRODUCER_ERR_INVALID_CONFIG;
  state->number = atoi(number);
  CHECK_TEXT("5", producer_config_get(config, "linger.ms"));
  producer_config_t *clone = producer_config_clone(config);
  CHECK_TEXT(number, producer_config_get(clone, "interceptor.number"));
  producer_config_free(clone);
  atomic_fetch_add(&state->configured, 1);
  return PRODUCER_OK;
}

static void *memory(producer_arena_t *arena, size_t size) {
  void *memory = producer_arena_alloc(arena, size);
  CHECK(memory && (uintptr_t)memory % 16 == 0);
  memset(memory, 0xa5, size);
  return memory;
}

/* By tag: changes everything, breaks something, takes too much. */
enum { PLAIN, CHANGED, TOPIC, FLAGS, SLICE, HEADER, REFUSES, GREEDY, SERIALIZED, UNKNOWN, TAGS };

static producer_status_t on_send(producer_record_t *record, producer_arena_t *arena,
                                 void *user_data) {
  state_t *state = user_data;
  atomic_fetch_add(&state->sent, 1);
  switch (record->tag) {
    case CHANGED: {
      CHECK(record->flags & PRODUCER_RECORD_HAS_TIMESTAMP);
      CHECK_EQ(HEADERS, record->header_count);
      producer_header_t *headers = memory(arena, (HEADERS + 1) * sizeof *headers);
      memcpy(headers, record->headers, HEADERS * sizeof *headers);
      headers[HEADERS] = (producer_header_t){producer_str("last"), producer_str("added")};
      record->headers = headers;
      record->header_count++;
      char *value = memory(arena, 11);
      memcpy(value, "a new value", 11);
      record->value = bytes_of(value, 11);
      record->key = bytes_of(memory(arena, 0), 0);
      record->timestamp_ms = 4711;
      record->partition = 1;
      record->flags |= PRODUCER_RECORD_HAS_PARTITION;
      return PRODUCER_OK;
    }
    case TOPIC:
      record->topic = producer_str("u");
      return PRODUCER_OK;
    case FLAGS:
      record->flags |= 1u << 20;
      return PRODUCER_OK;
    case SLICE:
      record->value.data = NULL;
      return PRODUCER_OK;
    case HEADER: {
      producer_header_t *header = memory(arena, sizeof *header);
      *header = (producer_header_t){producer_str("\xff"), producer_str("")};
      record->headers = header;
      record->header_count = 1;
      return PRODUCER_OK;
    }
    case REFUSES:
      record->value = producer_str("never seen");
      return 12345;
    case GREEDY: {
      size_t had = 0;
      while (producer_arena_alloc(arena, 1 << 20)) CHECK((had += 1 << 20) < 1 << 28);
      CHECK(had >= 1 << 20);
      CHECK(producer_arena_alloc(arena, SIZE_MAX) == NULL);
      CHECK(producer_arena_alloc(arena, SIZE_MAX / 2) == NULL);
      return PRODUCER_OK;
    }
    default: return PRODUCER_OK;
  }
}

static void on_acknowledgement(const producer_delivery_t *delivery, void *user_data) {
  state_t *state = user_data;
  CHECK(delivery->count >= 1 && delivery->records);
  CHECK((delivery->status == PRODUCER_OK) == (delivery->failure == NULL));
  producer_cursor_t cursor = {{0, 0}};
  producer_record_t record;
  uint32_t count = 0;
  for (; producer_delivery_next(delivery, &cursor, &record); count++) {
    CHECK(same_bytes(producer_str(record.tag == UNKNOWN ? "no" : "t"), record.topic));
    CHECK_EQ(delivery->tags[count], record.tag);
    if (record.tag == CHANGED) {
      CHECK_EQ(HEADERS + 1, record.header_count);
      CHECK(same_bytes(producer_str("added"), record.headers[HEADERS].value));
      CHECK_EQ(4711, record.timestamp_ms);
    }
    bool serialized = record.flags & PRODUCER_RECORD_AS_IS;
    CHECK_EQ(record.tag != SERIALIZED, serialized);
  }
  CHECK_EQ(delivery->count, count);
  if (delivery->failure) {
    CHECK_EQ(PRODUCER_STAGE_REFUSED, delivery->failure->stage);
    CHECK(delivery->failure->message[0] && delivery->failure->network_error);
    CHECK_EQ(-1, delivery->base_offset);
    CHECK_EQ(-1, delivery->partition);
    atomic_fetch_add(&state->refused, 1);
  }
  atomic_fetch_add(&state->acknowledged, (int)count);
}

static void on_close(void *user_data) { atomic_fetch_add(&((state_t *)user_data)->closed, 1); }

static producer_status_t serialize(producer_slice_t topic, producer_slice_t input,
                                   producer_slice_t *output, producer_arena_t *arena,
                                   void *user_data) {
  state_t *state = user_data;
  CHECK(topic.len > 0);
  CHECK(output->data == NULL && output->len == 0);
  atomic_fetch_add(&state->serialized, 1);
  if (input.len == 6 && memcmp(input.data, "refuse", 6) == 0) return -1;
  if (input.len == 7 && memcmp(input.data, "no-data", 7) == 0) {
    output->len = 3;
    return PRODUCER_OK;
  }
  if (!input.data) return PRODUCER_OK;
  char *copy = memory(arena, input.len + 1);
  memcpy(copy, input.data, input.len);
  copy[input.len] = '!';
  *output = bytes_of(copy, input.len + 1);
  return PRODUCER_OK;
}

static void on_close_serializer(void *user_data) {
  state_t *state = user_data;
  CHECK_EQ(1, state->closed);
  atomic_fetch_add(&state->closed_serializers, 1);
}

static void read_back(producer_mock_cluster_t *cluster, uint64_t tag, int32_t partition,
                      int64_t offset, const char *expected) {
  producer_record_t stored;
  if (!producer_mock_cluster_read(cluster, producer_str("t"), partition, offset, &stored))
    FAIL("tag %d is not there", (int)tag);
  if (!same_bytes(producer_str(expected), stored.value))
    FAIL("tag %d: %.*s", (int)tag, (int)stored.value.len, (const char *)stored.value.data);
}

static void what_they_do(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  state_t state = {0};
  producer_interceptor_t interceptor = {sizeof interceptor, &state,  configure,
                                        on_send,            on_acknowledgement, on_close};
  producer_serializer_t serializer = {sizeof serializer, &state, serialize, on_close_serializer};
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_add_interceptor(config, &interceptor));
  CHECK_STATUS(PRODUCER_OK, producer_config_set_value_serializer(config, &serializer));
  producer_t *producer = NULL;
  /* Without the key that it wants there is no producer, and nothing to end. */
  CHECK_FAILS(PRODUCER_ERR_INVALID_CONFIG, producer_new(config, &producer, &error));
  CHECK(strstr(error.message, "interceptor 1 of 1: configure failed: it returned -101 "
                              "(PRODUCER_ERR_INVALID_CONFIG)"));
  CHECK_EQ(0, state.closed);
  set_key(config, "interceptor.number", "42");
  producer_config_t *clone = producer_config_clone(config);
  producer_config_free(config);
  producer = start(clone);
  CHECK_EQ(42, state.number);
  producer_header_t headers[HEADERS];
  for (int i = 0; i < HEADERS; i++)
    headers[i] = (producer_header_t){producer_str("h"), producer_str("v")};
  producer_receipt_t receipt;
  for (uint64_t tag = 0; tag < SERIALIZED; tag++) {
    producer_record_t record = {.topic = producer_str("t"), .value = producer_str("as sent"),
                                .headers = headers, .header_count = HEADERS, .partition = 0,
                                .flags = PRODUCER_RECORD_HAS_TIMESTAMP, .timestamp_ms = 1,
                                .tag = tag};
    if (tag != CHANGED) record.flags |= PRODUCER_RECORD_HAS_PARTITION;
    CHECK_OK(producer_send_sync(producer, &record, 30000, &receipt, &error));
    read_back(cluster, tag, receipt.partition, receipt.offset,
              tag == CHANGED ? "a new value!" : "as sent!");
    if (tag == CHANGED) CHECK_EQ(1, receipt.partition);
  }
  /* Sent again as it is: neither runs. */
  int sent = state.sent, serialized = state.serialized;
  producer_record_t again = {.topic = producer_str("t"), .value = producer_str("once"),
                             .flags = PRODUCER_RECORD_AS_IS, .tag = PLAIN};
  CHECK_OK(producer_send_sync(producer, &again, 30000, &receipt, &error));
  read_back(cluster, PLAIN, receipt.partition, receipt.offset, "once");
  CHECK_EQ(sent, state.sent);
  CHECK_EQ(serialized, state.serialized);
  /* Refused: by the serializer, by its output, by a topic that is not there. */
  CHECK_EQ(0, state.refused);
  producer_record_t refused = {.topic = producer_str("t"), .value = producer_str("refuse"),
                               .tag = SERIALIZED};
  CHECK_FAILS(PRODUCER_ERR_SERIALIZATION, producer_send(producer, &refused, &error));
  CHECK(strstr(error.message, "topic t: the value was not serialized by the one of "
                              "producer_config_set_value_serializer(): it returned -1"));
  refused.value = producer_str("no-data");
  CHECK_FAILS(PRODUCER_ERR_SERIALIZATION, producer_try_send(producer, &refused, &error));
  CHECK(strstr(error.message, "`output` has data NULL and len 3"));
  /* Nobody answers meanwhile what partitions there are. */
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, true, true, 0, 0));
  refused = (producer_record_t){.topic = producer_str("no"), .tag = UNKNOWN};
  CHECK_FAILS(PRODUCER_ERR_METADATA_PENDING, producer_try_send(producer, &refused, &error));
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, true, false, 0, 0));
  CHECK_EQ(3, state.refused);
  /* What is no record never gets to them. */
  refused.flags = 1u << 30;
  CHECK_FAILS(PRODUCER_ERR_INVALID_ARGUMENT, producer_send(producer, &refused, &error));
  CHECK_EQ(3, state.refused);
  CHECK_EQ(0, state.closed);
  CHECK_OK(producer_close(producer, 30000, NULL, &error));
  CHECK_EQ(SERIALIZED + 1 + 3, state.acknowledged);
  CHECK_EQ(1, state.configured);
  CHECK_EQ(1, state.closed);
  CHECK_EQ(1, state.closed_serializers);
  producer_free(producer);
  CHECK_EQ(1, state.closed);
  CHECK_EQ(1, state.closed_serializers);
}

/* ---- Columns, and batches of which a prefix is accepted ---- */

static void prefixes(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  producer_config_t *config = config_for(cluster);
  set_key(config, "value.serializer", "string");
  producer_t *producer = start(config);
  const int32_t lens[] = {1, 1, 1};
  size_t accepted = 9;
  producer_slice_t null = {NULL, 0};
  CHECK_FAILS(PRODUCER_ERR_SERIALIZATION,
              producer_send_columns(producer, producer_str("t"), 0, null, NULL,
                                    bytes_of("a\xff" "c", 3), lens, 3, 0, -1, &accepted, &error));
  CHECK_EQ(1, accepted);
  CHECK(strstr(error.message, "value.serializer=string: not UTF-8 at byte 0"));
  producer_free(producer);
}

int main(void) {
  producer_mock_cluster_t *cluster = new_cluster(1);
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("t"), 2));
  tables(cluster);
  contradictions(cluster);
  what_they_do(cluster);
  prefixes(cluster);
  producer_mock_cluster_free(cluster);
  return 0;
}
