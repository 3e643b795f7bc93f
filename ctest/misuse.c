/* Everything a caller can get wrong: each case gets a status, and a sentence that names the thing.
 * Nothing that was refused is ever reported, and the producer goes on working. */
#include "support.h"

static producer_mock_cluster_t *cluster;
static producer_t *producer;
static ledger_t ledger;
static uint64_t sent;

static void expect_words(const char *what, const char *message, const char *const *words) {
  CHECK(strlen(message) > 15);
  for (; *words; words++)
    if (!strstr(message, *words)) FAIL("%s: \"%s\" does not say %s", what, message, *words);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A call that fills `error`, which must be in scope: its status, and words of its message. */
#define REFUSED(status, words, call_with_error) \
  do { \
    CHECK_FAILS(status, call_with_error); \
    expect_words(#call_with_error, error.message, words); \
  } while (0)

static void null_pointers(void) {
  producer_error_t *none = NULL, error;
  producer_slice_t topic = producer_str("topic"), null = {NULL, 0};
  producer_record_t record = {.topic = topic};
  producer_receipt_t receipt;
  producer_delivery_t delivery;
  producer_counters_t counters;
  producer_partition_info_t partition;
  producer_cursor_t cursor = {0};
  producer_config_t *config = config_for(cluster);
  producer_t *out = NULL;
  size_t count = 77;
  int32_t lens[1] = {-1};
  const producer_status_t bad = PRODUCER_ERR_INVALID_ARGUMENT;

  producer_config_free(NULL);
  producer_free(NULL);
  producer_mock_cluster_free(NULL);
  CHECK(producer_config_clone(NULL) == NULL);

  REFUSED(bad, WORDS("`config`", "producer_config_new"),
          producer_config_set(NULL, "linger.ms", "5", &error));
  REFUSED(bad, WORDS("`key`"), producer_config_set(config, NULL, "5", &error));
  REFUSED(bad, WORDS("`value`"), producer_config_set(config, "linger.ms", NULL, &error));
  CHECK_STATUS(bad, producer_config_set(NULL, NULL, NULL, none));
  CHECK(producer_config_get(NULL, "linger.ms") == NULL);
  CHECK(producer_config_get(config, NULL) == NULL);
  CHECK_STATUS(bad, producer_config_set_delivery_callback(NULL, ledger_callback, NULL));
  CHECK_STATUS(bad, producer_config_set_delivery_callback(config, NULL, NULL));
  CHECK_STATUS(bad, producer_config_enable_poll(NULL));
  CHECK_STATUS(bad, producer_config_set_partitioner(NULL, NULL));
  CHECK_STATUS(bad, producer_config_set_partitioner(config, NULL));
  CHECK_STATUS(bad, producer_config_set_log_callback(config, PRODUCER_LOG_INFO, NULL, NULL));
  CHECK_STATUS(bad, producer_config_set_log_callback(NULL, PRODUCER_LOG_INFO, NULL, NULL));

  REFUSED(bad, WORDS("`config`"), producer_new(NULL, &out, &error));
  REFUSED(bad, WORDS("`producer_out`"), producer_new(config, NULL, &error));
  CHECK(out == NULL);
  REFUSED(bad, WORDS("`producer`", "producer_new"), producer_close(NULL, 0, NULL, &error));
  REFUSED(bad, WORDS("`producer`"), producer_flush(NULL, 0, &error));
  CHECK_STATUS(bad, producer_purge(NULL, null, -1));
  CHECK_STATUS(bad, producer_get_counters(NULL, &counters));
  CHECK_STATUS(bad, producer_get_counters(producer, NULL));
  REFUSED(bad, WORDS("`producer`"),
          producer_partitions_for(NULL, topic, &partition, 1, 0, &count, &error));
  REFUSED(bad, WORDS("`topic`", "null"),
          producer_partitions_for(producer, null, &partition, 1, 0, &count, &error));
  REFUSED(bad, WORDS("`partitions`"),
          producer_partitions_for(producer, topic, NULL, 1, 0, &count, &error));
  REFUSED(bad, WORDS("`count`"),
          producer_partitions_for(producer, topic, &partition, 1, 0, NULL, &error));

  REFUSED(bad, WORDS("`producer`"), producer_send(NULL, &record, &error));
  REFUSED(bad, WORDS("`record`"), producer_send(producer, NULL, &error));
  CHECK_STATUS(bad, producer_send(NULL, NULL, none));
  REFUSED(bad, WORDS("`producer`"), producer_try_send(NULL, &record, &error));
  REFUSED(bad, WORDS("`record`"), producer_try_send(producer, NULL, &error));
  REFUSED(bad, WORDS("`producer`"), producer_send_sync(NULL, &record, 0, &receipt, &error));
  REFUSED(bad, WORDS("`record`"), producer_send_sync(producer, NULL, 0, &receipt, &error));
  REFUSED(bad, WORDS("`receipt`"), producer_send_sync(producer, &record, 0, NULL, &error));
  count = 77;
  REFUSED(bad, WORDS("`producer`"), producer_send_batch(NULL, &record, 1, 0, &count, &error));
  CHECK_EQ(0, count);
  REFUSED(bad, WORDS("`records`"), producer_send_batch(producer, NULL, 1, 0, &count, &error));
  REFUSED(bad, WORDS("`accepted`"), producer_send_batch(producer, &record, 1, 0, NULL, &error));
  REFUSED(bad, WORDS("`records`"),
          producer_send_batch(producer, &record, SIZE_MAX / 8, 0, &count, &error));
  REFUSED(bad, WORDS("`producer`"),
          producer_send_columns(NULL, topic, -1, null, NULL, null, lens, 1, 0, 0, &count, &error));
  REFUSED(bad, WORDS("`topic`"), producer_send_columns(producer, null, -1, null, NULL, null, lens,
                                                       1, 0, 0, &count, &error));
  REFUSED(bad, WORDS("`value_lens`"), producer_send_columns(producer, topic, -1, null, NULL, null,
                                                            NULL, 1, 0, 0, &count, &error));

  CHECK_STATUS(bad, producer_poll(NULL, &delivery, 1, 0, &count));
  CHECK_STATUS(bad, producer_poll(producer, NULL, 1, 0, &count));
  CHECK_STATUS(bad, producer_poll(producer, &delivery, 0, 0, &count));
  CHECK_STATUS(bad, producer_poll(producer, &delivery, 1, 0, NULL));
  CHECK_STATUS(bad, producer_poll(producer, &delivery, 1, -2, &count));
  CHECK_EQ(-1, producer_poll_fd(NULL));
  memset(&delivery, 0, sizeof delivery);
  CHECK(!producer_delivery_next(NULL, &cursor, &record));
  CHECK(!producer_delivery_next(&delivery, NULL, &record));
  CHECK(!producer_delivery_next(&delivery, &cursor, NULL));
  CHECK(!producer_delivery_next(&delivery, &cursor, &record));
  producer_config_free(config);
}

static void null_pointers_of_the_mock(void) {
  producer_error_t error;
  producer_slice_t topic = producer_str("topic"), null = {NULL, 0};
  producer_mock_cluster_t *out = NULL;
  producer_record_t record;
  const producer_status_t bad = PRODUCER_ERR_INVALID_ARGUMENT;
  int32_t code = 70000;

  REFUSED(bad, WORDS("`cluster_out`"), producer_mock_cluster_new(1, NULL, &error));
  REFUSED(bad, WORDS("0"), producer_mock_cluster_new(0, &out, &error));
  CHECK(out == NULL);
  CHECK(producer_mock_cluster_bootstrap_servers(NULL) == NULL);
  CHECK_STATUS(bad, producer_mock_cluster_create_topic(NULL, topic, 1));
  CHECK_STATUS(bad, producer_mock_cluster_create_topic(cluster, null, 1));
  CHECK_STATUS(bad, producer_mock_cluster_delete_topic(NULL, topic));
  CHECK_STATUS(bad, producer_mock_cluster_set_leader(NULL, topic, 0, 1));
  CHECK_STATUS(bad, producer_mock_cluster_set_broker(NULL, 1, true, false, 0, 0));
  CHECK_STATUS(bad, producer_mock_cluster_set_broker(cluster, 1, true, false, -1, 0));
  CHECK_STATUS(bad, producer_mock_cluster_set_broker(cluster, 1, true, false, 0, -1));
  CHECK_STATUS(bad, producer_mock_cluster_set_advertised(NULL, 1, "h", 1));
  CHECK_STATUS(bad, producer_mock_cluster_set_advertised(cluster, 1, NULL, 1));
  CHECK_STATUS(bad, producer_mock_cluster_set_advertised(cluster, 1, "h", 0));
  CHECK_STATUS(bad, producer_mock_cluster_set_advertised(cluster, 9, "h", 1));
  CHECK_STATUS(bad, producer_mock_cluster_push_errors(NULL, 0, &code, 1));
  CHECK_STATUS(bad, producer_mock_cluster_push_errors(cluster, 0, NULL, 1));
  CHECK_STATUS(bad, producer_mock_cluster_push_errors(cluster, 0, &code, 1));
  CHECK_STATUS(bad, producer_mock_cluster_set_api_versions(NULL, 0, 3, 3));
  CHECK_STATUS(bad, producer_mock_cluster_forget_producers(NULL));
  CHECK(!producer_mock_cluster_read(NULL, topic, 0, 0, &record));
  CHECK(!producer_mock_cluster_read(cluster, topic, 0, 0, NULL));
  CHECK(!producer_mock_cluster_read(cluster, null, 0, 0, &record));
  CHECK(!producer_mock_cluster_read(cluster, producer_str("absent"), 0, 0, &record));
  CHECK_EQ(-1, producer_mock_cluster_end_offset(NULL, topic, 0));
  CHECK_EQ(-1, producer_mock_cluster_end_offset(cluster, producer_str("absent"), 0));
  CHECK_EQ(0, producer_mock_cluster_request_count(NULL, 0, 0));
}

static void config_values(void) {
  static const struct {
    const char *key, *value;
    const char *words[4];
  } cases[] = {
      {"linger.sm", "5", {"linger.sm", "linger.ms"}},
      {"bootstrap.server", "a:1", {"bootstrap.server", "bootstrap.servers"}},
      {"", "5", {""}},
      {"Linger.ms", "5", {"Linger.ms", "linger.ms"}},
      {"linger.ms", "-1", {"linger.ms", "-1"}},
      {"linger.ms", "soon", {"linger.ms", "soon"}},
      {"linger.ms", "", {"linger.ms"}},
      {"linger.ms", "99999999999999999999", {"linger.ms", "99999999999999999999"}},
      {"batch.size", "-5", {"batch.size", "-5"}},
      {"acks", "2", {"acks", "2", "all"}},
      {"acks", "some", {"acks", "some", "all"}},
      {"bootstrap.servers", "host", {"bootstrap.servers", "host"}},
      {"bootstrap.servers", "host:0", {"bootstrap.servers", "host:0"}},
      {"bootstrap.servers", "host:65536", {"bootstrap.servers", "65536"}},
      {"bootstrap.servers", ",", {"bootstrap.servers"}},
      {"allow.auto.create.topics", "maybe", {"allow.auto.create.topics", "maybe"}},
      {"compression.type", "lzma", {"compression.type", "lzma", "none, gzip, snappy, lz4 or zstd"}},
      /* What this version does not have yet is refused, not ignored. */
      {"enable.idempotence", "perhaps", {"enable.idempotence", "perhaps"}},
      {"transactional.id", "t", {"transactional.id", "not available in this version"}},
      {"security.protocol", "SSL", {"security.protocol", "not available in this version"}},
      {"sasl.mechanism", "PLAIN", {"sasl.mechanism", "not available in this version"}},
      {"ssl.ca.location", "/ca", {"ssl.ca.location", "not available in this version"}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    producer_error_t error;
    producer_config_t *config = producer_config_new();
    const char *before = producer_config_get(config, cases[i].key);
    char *copy = before ? strdup(before) : NULL;
    memset(&error, 0, sizeof error);
    producer_status_t status = producer_config_set(config, cases[i].key, cases[i].value, &error);
    if (status != PRODUCER_ERR_INVALID_CONFIG)
      FAIL("%s=%s: %s: %s", cases[i].key, cases[i].value, producer_status_name(status),
           error.message);
    CHECK_EQ(status, error.status);
    expect_words(cases[i].key, error.message, cases[i].words);
    /* The config is unchanged. */
    const char *after = producer_config_get(config, cases[i].key);
    CHECK((copy == NULL) == (after == NULL));
    if (copy) CHECK_TEXT(copy, after);
    free(copy);
    producer_config_free(config);
  }
  producer_error_t error;
  producer_config_t *config = producer_config_new();
  REFUSED(PRODUCER_ERR_INVALID_ARGUMENT, WORDS("`key`", "UTF-8"),
          producer_config_set(config, "\xff", "5", &error));
  REFUSED(PRODUCER_ERR_INVALID_ARGUMENT, WORDS("`value`", "UTF-8"),
          producer_config_set(config, "client.id", "\xff", &error));
  CHECK_STATUS(PRODUCER_ERR_INVALID_ARGUMENT,
               producer_config_set_log_callback(config, 5, NULL, NULL));
  CHECK(producer_config_get(config, "no.such.key") == NULL);
  producer_config_free(config);
}

static atomic_int log_lines;

static void count_lines(producer_log_level_t level, const char *target, const char *message,
                        void *user_data) {
  (void)target, (void)user_data;
  if (level == PRODUCER_LOG_ERROR && message[0]) atomic_fetch_add(&log_lines, 1);
}

static void configs_that_do_not_fit_together(void) {
  producer_error_t error;
  producer_t *out = NULL;
  producer_config_t *config = producer_config_new();
  REFUSED(PRODUCER_ERR_INVALID_CONFIG, WORDS("bootstrap.servers"),
          producer_new(config, &out, &error));
  set_key(config, "bootstrap.servers", "127.0.0.1:1");
  set_key(config, "delivery.timeout.ms", "1000");
  set_key(config, "request.timeout.ms", "30000");
  REFUSED(PRODUCER_ERR_INVALID_CONFIG, WORDS("delivery.timeout.ms", "request.timeout.ms"),
          producer_new(config, &out, &error));
  set_key(config, "buffer.memory", "2000");
  set_key(config, "batch.size", "100000");
  CHECK_STATUS(PRODUCER_OK, producer_config_set_log_callback(config, PRODUCER_LOG_ERROR,
                                                             count_lines, NULL));
  REFUSED(PRODUCER_ERR_INVALID_CONFIG, WORDS("delivery.timeout.ms"),
          producer_new(config, &out, &error));
  CHECK(log_lines >= 2); /* every problem, on the log */
  CHECK(out == NULL);
  producer_config_free(config);
}

/* Refused by every function that takes a record, with the same status; `words` by each message. */
static void refused_record(const producer_record_t *record, producer_status_t status,
                           const char *const *words) {
  producer_error_t error;
  producer_receipt_t receipt;
  producer_record_t batch[3] = {{.topic = producer_str("good"), .tag = sent}, *record, *record};
  size_t accepted = 77;
  REFUSED(status, words, producer_send(producer, record, &error));
  REFUSED(status, words, producer_try_send(producer, record, &error));
  REFUSED(status, words, producer_send_sync(producer, record, LONG_MS, &receipt, &error));
  REFUSED(status, words, producer_send_batch(producer, batch, 3, LONG_MS, &accepted, &error));
  CHECK_EQ(1, accepted);
  sent++;
}

static void records(void) {
  static const uint8_t latin1[] = {0xe4, 0xf6};
  static char long_topic[251];
  memset(long_topic, 't', 250);
  producer_slice_t good = producer_str("good");
  producer_header_t null_key = {{NULL, 0}, good}, bad_key = {bytes_of(latin1, 2), good};
  producer_header_t bad_value = {good, {NULL, 3}};
  producer_header_t many[20];
  for (int i = 0; i < 20; i++) many[i] = (producer_header_t){good, good};
  many[19].key.data = NULL;
  uint8_t byte = 0;
  size_t too_long = (size_t)INT32_MAX + 1;

  const producer_status_t bad = PRODUCER_ERR_INVALID_ARGUMENT;
  const struct {
    producer_record_t record;
    producer_status_t status;
    const char *words[4];
  } cases[] = {
      {{.topic = {NULL, 0}}, bad, {"topic", "null"}},
      {{.topic = {NULL, 4}}, bad, {"topic", "NULL", "4"}},
      {{.topic = {&byte, 0}}, bad, {"empty"}},
      {{.topic = producer_str(long_topic)}, bad, {"250", "249"}},
      {{.topic = producer_str("a/b")}, bad, {"a/b"}},
      {{.topic = producer_str("a b")}, bad, {"a b"}},
      {{.topic = producer_str(".")}, bad, {"."}},
      {{.topic = producer_str("..")}, bad, {".."}},
      {{.topic = producer_str("\xc3\xa4")}, bad, {"\xc3\xa4"}},
      {{.topic = bytes_of(latin1, 2)}, bad, {"UTF-8"}},
      {{.topic = {&byte, too_long}}, bad, {"topic", "2147483648"}},
      {{.topic = good, .key = {NULL, 1}}, bad, {"key", "NULL"}},
      {{.topic = good, .key = {&byte, SIZE_MAX}}, bad, {"key", "2147483647"}},
      {{.topic = good, .value = {NULL, 1}}, bad, {"value", "NULL"}},
      {{.topic = good, .value = {&byte, too_long}}, bad, {"value", "2147483647"}},
      {{.topic = good, .flags = 8}, bad, {"flags", "0x8"}},
      {{.topic = good, .flags = 0x80000000u}, bad, {"flags", "0x80000000"}},
      {{.topic = good, .reserved = 1}, bad, {"reserved", "0"}},
      {{.topic = good, .extension = &byte}, bad, {"extension"}},
      {{.topic = good, .timeout_ms = -1}, bad, {"timeout_ms", "-1"}},
      {{.topic = good, .header_count = 1}, bad, {"headers", "NULL", "1"}},
      {{.topic = good, .headers = many, .header_count = SIZE_MAX / 2}, bad, {"headers"}},
      {{.topic = good, .headers = &null_key, .header_count = 1}, bad, {"headers[0].key", "null"}},
      {{.topic = good, .headers = &bad_key, .header_count = 1}, bad, {"headers[0].key", "UTF-8"}},
      {{.topic = good, .headers = &bad_value, .header_count = 1}, bad, {"headers[0].value"}},
      {{.topic = good, .headers = many, .header_count = 20}, bad, {"headers[19].key"}},
      {{.topic = good, .partition = -1, .flags = PRODUCER_RECORD_HAS_PARTITION}, bad, {"-1"}},
      {{.topic = good, .partition = 99, .flags = PRODUCER_RECORD_HAS_PARTITION},
       bad, {"good", "99", "0 to 0"}},
      {{.topic = good, .partition = INT32_MAX, .flags = PRODUCER_RECORD_HAS_PARTITION},
       bad, {"2147483647"}},
      {{.topic = good, .timestamp_ms = -1, .flags = PRODUCER_RECORD_HAS_TIMESTAMP}, bad,
       {"timestamp", "-1"}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    refused_record(&cases[i].record, cases[i].status, cases[i].words);

  /* Too large: its size, the limit, and the key to change. */
  size_t size = 1 << 20;
  uint8_t *large = calloc(1, size);
  CHECK(large);
  producer_record_t record = {.topic = good, .value = bytes_of(large, size)};
  refused_record(&record, PRODUCER_ERR_MESSAGE_TOO_LARGE,
                 WORDS("max.request.size", "1048576", "10486"));
  free(large);

  producer_error_t error;
  producer_receipt_t receipt;
  size_t accepted;
  record = (producer_record_t){.topic = good};
  REFUSED(bad, WORDS("timeout_ms", "-2"),
          producer_send_sync(producer, &record, -2, &receipt, &error));
  REFUSED(bad, WORDS("timeout_ms", "-2"),
          producer_send_batch(producer, &record, 1, -2, &accepted, &error));
  /* A batch's messages say which of its records. */
  producer_record_t batch[2] = {{.topic = good, .tag = sent++}, {.topic = good, .flags = 64}};
  REFUSED(bad, WORDS("records[1].flags"),
          producer_send_batch(producer, batch, 2, LONG_MS, &accepted, &error));
  CHECK_EQ(1, accepted);
  batch[0].tag = sent++;
  batch[1] = (producer_record_t){.topic = good, .headers = many, .header_count = 20};
  REFUSED(bad, WORDS("records[1].headers[19].key"),
          producer_send_batch(producer, batch, 2, LONG_MS, &accepted, &error));
  CHECK_EQ(1, accepted);
}

static void other_arguments(void) {
  producer_error_t error;
  producer_slice_t good = producer_str("good"), null = {NULL, 0};
  producer_partition_info_t partition;
  size_t count = 77;
  const producer_status_t bad = PRODUCER_ERR_INVALID_ARGUMENT;
  REFUSED(bad, WORDS("timeout_ms"), producer_flush(producer, -2, &error));
  REFUSED(bad, WORDS("timeout_ms"), producer_close(producer, -2, NULL, &error));
  REFUSED(bad, WORDS("timeout_ms"),
          producer_partitions_for(producer, good, &partition, 1, INT32_MIN, &count, &error));
  REFUSED(bad, WORDS("a/b"),
          producer_partitions_for(producer, producer_str("a/b"), &partition, 1, 0, &count,
                                  &error));
  CHECK_STATUS(bad, producer_purge(producer, null, 0));
  CHECK_STATUS(bad, producer_purge(producer, good, -2));
  CHECK_STATUS(bad, producer_purge(producer, bytes_of(NULL, 1), -1));
  CHECK_STATUS(bad, producer_purge(producer, producer_str("a/b"), -1));
  /* These are fine. */
  CHECK_STATUS(PRODUCER_OK, producer_purge(producer, producer_str("absent"), 5));
  CHECK_OK(producer_partitions_for(producer, good, NULL, 0, LONG_MS, &count, &error));
  CHECK_EQ(1, count);
}

/* A topic that does not exist and may not be created. */
static void unknown_topic(void) {
  producer_error_t error;
  producer_config_t *config = config_for(cluster);
  set_key(config, "allow.auto.create.topics", "false");
  set_key(config, "max.block.ms", "300");
  producer_t *other = start(config);
  producer_record_t record = {.topic = producer_str("nobody-made-this")};
  REFUSED(PRODUCER_ERR_METADATA_PENDING, WORDS("nobody-made-this"),
          producer_try_send(other, &record, &error));
  int64_t begin = now_ms();
  CHECK_FAILS(PRODUCER_ERR_TIMED_OUT, producer_send(other, &record, &error));
  expect_words("unknown topic", error.message, WORDS("nobody-made-this"));
  CHECK(error.flags & PRODUCER_RETRIABLE);
  CHECK(now_ms() - begin >= 290 && now_ms() - begin < LONG_MS);
  producer_free(other);
}

static void closed(void) {
  producer_error_t error;
  producer_record_t record = {.topic = producer_str("good")};
  producer_receipt_t receipt;
  producer_counters_t counters;
  producer_partition_info_t partition;
  producer_slice_t null = {NULL, 0};
  int32_t lens[1] = {-1};
  size_t count;
  uint64_t aborted = 77;
  const producer_status_t gone = PRODUCER_ERR_CLOSED;
  CHECK_OK(producer_close(producer, 30000, &aborted, &error));
  CHECK_EQ(0, aborted);
  CHECK_LEDGER(&ledger, 0);
  CHECK_COUNTERS(producer, sent, 0);
  REFUSED(gone, WORDS("closed"), producer_close(producer, 30000, &aborted, &error));
  REFUSED(gone, WORDS("closed"), producer_send(producer, &record, &error));
  REFUSED(gone, WORDS("closed"), producer_try_send(producer, &record, &error));
  REFUSED(gone, WORDS("closed"), producer_send_sync(producer, &record, 9, &receipt, &error));
  REFUSED(gone, WORDS("closed"), producer_send_batch(producer, &record, 1, 9, &count, &error));
  REFUSED(gone, WORDS("closed"), producer_send_columns(producer, record.topic, -1, null, NULL,
                                                       null, lens, 1, 0, 9, &count, &error));
  REFUSED(gone, WORDS("closed"), producer_flush(producer, 9, &error));
  REFUSED(gone, WORDS("closed"), producer_partitions_for(producer, record.topic, &partition, 1, 9,
                                                         &count, &error));
  CHECK_STATUS(gone, producer_purge(producer, null, -1));
  CHECK_STATUS(PRODUCER_OK, producer_get_counters(producer, &counters));
}

int main(void) {
  cluster = new_cluster(1);
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("good"), 1));
  ledger_init(&ledger, 100);
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, ledger_callback,
                                                                  &ledger));
  producer = start(config);
  null_pointers();
  null_pointers_of_the_mock();
  config_values();
  configs_that_do_not_fit_together();
  records();
  other_arguments();
  unknown_topic();
  ledger.size = sent;
  closed();
  producer_free(producer);
  producer_mock_cluster_free(cluster);
  ledger_free(&ledger);
  return 0;
}
