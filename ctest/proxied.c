/* Faults of the network between a C program and its brokers: every record has one outcome, and none
 * is lost. usage: proxied FAULT-PROXY */
#include "proxy.h"

/* Each byte on its own costs the proxy and the broker a turn: of those there are few. */
enum { PARTITIONS = 4, ROUNDS = 8, PER_ROUND = 500, BYTE_BY_BYTE = 20,
       TOTAL = BYTE_BY_BYTE + (ROUNDS - 1) * PER_ROUND };

static const char *const faults[ROUNDS] = {
    "split all both 1",
    "reset all",
    "latency all both 20",
    "close all",
    "bandwidth all up 2000000",
    "cut all up 3000 reset once",
    "cut all down 30 close once",
    "half-close all down",
};

static void send_all(producer_t *producer, uint64_t first, uint64_t end) {
  producer_error_t error;
  for (uint64_t tag = first; tag < end; tag++) {
    producer_record_t record = {
        .topic = producer_str("t"),
        .value = {(const uint8_t *)&tag, sizeof tag},
        .partition = (int32_t)(tag % PARTITIONS),
        .flags = PRODUCER_RECORD_HAS_PARTITION,
        .tag = tag,
    };
    CHECK_OK(producer_send(producer, &record, &error));
  }
}

/* Each tag is in its partition's log, in the order in which they were sent; one that was written in
 * doubt may be there again. */
static void check_logs(producer_mock_cluster_t *cluster) {
  static unsigned char seen[TOTAL];
  for (int32_t partition = 0; partition < PARTITIONS; partition++) {
    int64_t end = producer_mock_cluster_end_offset(cluster, producer_str("t"), partition);
    for (int64_t offset = 0; offset < end; offset++) {
      producer_record_t record;
      uint64_t tag;
      CHECK(producer_mock_cluster_read(cluster, producer_str("t"), partition, offset, &record));
      CHECK_EQ(sizeof tag, record.value.len);
      memcpy(&tag, record.value.data, sizeof tag);
      CHECK(tag < TOTAL && (int32_t)(tag % PARTITIONS) == partition);
      CHECK(tag < PARTITIONS || seen[tag - PARTITIONS]);
      seen[tag] = 1;
    }
  }
  for (uint64_t tag = 0; tag < TOTAL; tag++) CHECK(seen[tag]);
}

int main(int argc, char **argv) {
  CHECK_EQ(2, argc);
  producer_error_t error;
  proxy_t proxy = proxy_start(argv[1]);
  producer_mock_cluster_t *cluster = new_cluster(2);
  CHECK_STATUS(PRODUCER_OK,
               producer_mock_cluster_create_topic(cluster, producer_str("t"), PARTITIONS));
  ledger_t ledger;
  ledger_init(&ledger, TOTAL);
  producer_config_t *config = proxy_config_for(&proxy, cluster);
  producer_config_set_delivery_callback(config, ledger_callback, &ledger);
  set_key(config, "retry.backoff.ms", "5");
  set_key(config, "reconnect.backoff.ms", "5");
  set_key(config, "reconnect.backoff.max.ms", "20");
  /* Enough for a busy machine to move a request byte by byte. */
  set_key(config, "request.timeout.ms", "20000");
  producer_t *producer = start(config);
  uint64_t sent = 0;
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t end = sent + (round == 0 ? BYTE_BY_BYTE : PER_ROUND);
    proxy_command(&proxy, NULL, "%s", faults[round]);
    send_all(producer, sent, end);
    if (producer_flush(producer, LONG_MS, &error) != PRODUCER_OK)
      FAIL("%s: %s", faults[round], error.message);
    proxy_command(&proxy, NULL, "heal all");
    sent = end;
  }
  CHECK_LEDGER(&ledger, 0);
  CHECK_COUNTERS(producer, TOTAL, 0);
  check_logs(cluster);
  CHECK_OK(producer_close(producer, 10000, NULL, &error));
  producer_free(producer);
  ledger_free(&ledger);
  producer_mock_cluster_free(cluster);
  proxy_stop(&proxy);
  return 0;
}
