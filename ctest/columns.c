/* producer_send_columns(): keys and values end to end, nulls among them, a prefix on failure, and
 * what it refuses. */
#include "support.h"

#define COUNT 1000

static uint8_t keys[COUNT * 8], values[COUNT * 40];
static int32_t key_lens[COUNT], value_lens[COUNT];
static size_t keys_len, values_len;

static void fill(void) {
  for (int i = 0; i < COUNT; i++) {
    key_lens[i] = i % 4 == 0 ? -1 : i % 4 == 1 ? 0 : 8;
    value_lens[i] = i % 5 == 0 ? -1 : i % 40;
    for (int j = 0; j < key_lens[i]; j++) keys[keys_len++] = (uint8_t)(i >> j);
    for (int j = 0; j < value_lens[i]; j++) values[values_len++] = (uint8_t)(i + j);
  }
}

static void compare(producer_mock_cluster_t *cluster) {
  size_t key_at = 0, value_at = 0;
  CHECK_EQ(COUNT, producer_mock_cluster_end_offset(cluster, producer_str("columns"), 0));
  for (int i = 0; i < COUNT; i++) {
    producer_record_t got;
    CHECK(producer_mock_cluster_read(cluster, producer_str("columns"), 0, i, &got));
    producer_slice_t null = {NULL, 0};
    size_t key_len = key_lens[i] < 0 ? 0 : (size_t)key_lens[i];
    size_t value_len = value_lens[i] < 0 ? 0 : (size_t)value_lens[i];
    CHECK(same_bytes(key_lens[i] < 0 ? null : bytes_of(keys + key_at, key_len), got.key));
    CHECK(same_bytes(value_lens[i] < 0 ? null : bytes_of(values + value_at, value_len),
                     got.value));
    key_at += key_len;
    value_at += value_len;
  }
}

int main(void) {
  fill();
  producer_error_t error;
  producer_mock_cluster_t *cluster = new_cluster(1);
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("four"), 4));
  ledger_t ledger;
  ledger_init(&ledger, 3 * COUNT);
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, ledger_callback,
                                                                  &ledger));
  producer_t *producer = start(config);
  producer_slice_t topic = producer_str("columns"), null = {NULL, 0};
  producer_slice_t key_bytes = bytes_of(keys, keys_len), value_bytes = bytes_of(values, values_len);
  size_t accepted = 77;

  CHECK_OK(producer_send_columns(producer, topic, 0, key_bytes, key_lens, value_bytes, value_lens,
                                 COUNT, 0, -1, &accepted, &error));
  CHECK_EQ(COUNT, accepted);
  CHECK_OK(producer_flush(producer, 30000, &error));
  compare(cluster);

  /* No keys, the partitioner chooses; then all values null. */
  CHECK_OK(producer_send_columns(producer, producer_str("four"), -1, null, NULL, value_bytes,
                                 value_lens, COUNT, COUNT, LONG_MS, &accepted, &error));
  CHECK_EQ(COUNT, accepted);
  int32_t nulls[COUNT];
  for (int i = 0; i < COUNT; i++) nulls[i] = -1;
  CHECK_OK(producer_send_columns(producer, producer_str("four"), -1, null, NULL, null, nulls,
                                 COUNT, 2 * COUNT, LONG_MS, &accepted, &error));
  CHECK_OK(producer_flush(producer, 30000, &error));
  CHECK_LEDGER(&ledger, 0);
  int64_t total = 0;
  for (int32_t p = 0; p < 4; p++)
    total += producer_mock_cluster_end_offset(cluster, producer_str("four"), p);
  CHECK_EQ(2 * COUNT, total);

  /* Nothing to send is fine. */
  accepted = 77;
  CHECK_OK(producer_send_columns(producer, topic, -1, null, NULL, null, NULL, 0, 0, 0, &accepted,
                                 &error));
  CHECK_EQ(0, accepted);

  /* What does not add up is refused as a whole. */
  int32_t bad_lens[2] = {3, -2}, long_lens[2] = {INT32_MAX, INT32_MAX};
  struct {
    producer_slice_t keys;
    const int32_t *key_lens;
    producer_slice_t values;
    const int32_t *value_lens;
    int32_t partition, timeout_ms;
    const char *names;
  } cases[] = {
      {null, NULL, bytes_of(values, 10), bad_lens, -1, 0, "value_lens[1]"},
      {null, NULL, bytes_of(values, 10), long_lens, -1, 0, "value_lens"},
      {null, NULL, bytes_of(values, 10), NULL, -1, 0, "value_lens"},
      {null, NULL, bytes_of(NULL, 10), value_lens, -1, 0, "values"},
      {bytes_of(keys, 1), NULL, null, nulls, -1, 0, "key_lens"},
      {bytes_of(keys, 1), nulls, null, nulls, -1, 0, "key_lens"},
      {null, bad_lens, null, nulls, -1, 0, "key_lens[1]"},
      {null, NULL, null, nulls, -2, 0, "partition"},
      {null, NULL, null, nulls, -1, -2, "timeout_ms"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    accepted = 77;
    CHECK_FAILS(PRODUCER_ERR_INVALID_ARGUMENT,
                producer_send_columns(producer, topic, cases[i].partition, cases[i].keys,
                                      cases[i].key_lens, cases[i].values, cases[i].value_lens, 2,
                                      0, cases[i].timeout_ms, &accepted, &error));
    CHECK_EQ(0, accepted);
    if (!strstr(error.message, cases[i].names))
      FAIL("case %zu: \"%s\" does not name %s", i, error.message, cases[i].names);
  }
  CHECK_FAILS(PRODUCER_ERR_INVALID_ARGUMENT,
              producer_send_columns(producer, null, -1, null, NULL, null, nulls, 2, 0, 0, &accepted,
                                    &error));
  CHECK_FAILS(PRODUCER_ERR_INVALID_ARGUMENT,
              producer_send_columns(producer, topic, -1, null, NULL, null, nulls, 2, 0, 0, NULL,
                                    &error));

  /* The first record that does not fit ends the call; those before it are sent. */
  static uint8_t large[2 << 20];
  int32_t large_lens[3] = {10, 2 << 20, 10};
  CHECK_FAILS(PRODUCER_ERR_INVALID_ARGUMENT,
              producer_send_columns(producer, topic, 0, null, NULL, bytes_of(large, sizeof large),
                                    large_lens, 3, 0, -1, &accepted, &error));
  large_lens[1] = (2 << 20) - 20;
  producer_config_t *other = config_for(cluster);
  producer_t *second = start(other);
  CHECK_FAILS(PRODUCER_ERR_MESSAGE_TOO_LARGE,
              producer_send_columns(second, topic, 0, null, NULL, bytes_of(large, sizeof large),
                                    large_lens, 3, 0, -1, &accepted, &error));
  CHECK_EQ(1, accepted);
  CHECK_OK(producer_flush(second, 30000, &error));
  CHECK_EQ(COUNT + 1, producer_mock_cluster_end_offset(cluster, topic, 0));

  CHECK_COUNTERS(producer, 3 * COUNT, 0);
  producer_free(second);
  producer_free(producer);
  producer_mock_cluster_free(cluster);
  ledger_free(&ledger);
  return 0;
}
