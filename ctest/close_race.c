/* Several threads send while several others close: every record that was accepted is reported
 * exactly once, every later call says CLOSED. A close without time may find a callback running, and
 * then says so. */
#include "support.h"

#define SENDERS 4
#define CLOSERS 3
#define PER_SENDER 20000

typedef struct {
  producer_t *producer;
  ledger_t *ledger;
  int number;
  uint64_t accepted;
  bool *taken;
} sender_t;

static void *send_until_closed(void *argument) {
  sender_t *sender = argument;
  producer_error_t error;
  for (uint64_t i = 0; i < PER_SENDER; i++) {
    uint64_t tag = (uint64_t)sender->number * PER_SENDER + i;
    producer_record_t record = {.topic = producer_str(i % 2 ? "odd" : "even"),
                                .value = producer_str("a value of some length"),
                                .tag = tag};
    producer_status_t status = producer_send(sender->producer, &record, &error);
    if (status == PRODUCER_OK) {
      sender->taken[tag] = true;
      sender->accepted++;
    } else {
      CHECK_EQ(PRODUCER_ERR_CLOSED, status);
      CHECK_FAILS(PRODUCER_ERR_CLOSED, producer_flush(sender->producer, 0, &error));
      break;
    }
  }
  return NULL;
}

typedef struct {
  producer_t *producer;
  int32_t timeout_ms;
  uint64_t aborted;
} closer_t;

static void *close_it(void *argument) {
  closer_t *closer = argument;
  producer_error_t error;
  producer_status_t status =
      producer_close(closer->producer, closer->timeout_ms, &closer->aborted, &error);
  if (status == PRODUCER_ERR_TIMED_OUT && closer->timeout_ms == 0)
    status = producer_close(closer->producer, LONG_MS, &closer->aborted, &error);
  if (status != PRODUCER_OK && status != PRODUCER_ERR_CLOSED)
    FAIL("close: %s: %s", producer_status_name(status), error.message);
  return NULL;
}

static void race(producer_mock_cluster_t *cluster, int delay_ms, int32_t timeout_ms) {
  static bool taken[SENDERS * PER_SENDER];
  memset(taken, 0, sizeof taken);
  ledger_t ledger;
  ledger_init(&ledger, SENDERS * PER_SENDER);
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, ledger_callback,
                                                                  &ledger));
  producer_t *producer = start(config);
  sender_t senders[SENDERS];
  closer_t closers[CLOSERS];
  pthread_t threads[SENDERS + CLOSERS];
  for (int i = 0; i < SENDERS; i++) {
    senders[i] = (sender_t){.producer = producer, .ledger = &ledger, .number = i, .taken = taken};
    CHECK_EQ(0, pthread_create(&threads[i], NULL, send_until_closed, &senders[i]));
  }
  sleep_ms(delay_ms);
  for (int i = 0; i < CLOSERS; i++) {
    closers[i] = (closer_t){.producer = producer, .timeout_ms = timeout_ms};
    CHECK_EQ(0, pthread_create(&threads[SENDERS + i], NULL, close_it, &closers[i]));
  }
  for (int i = 0; i < SENDERS + CLOSERS; i++) CHECK_EQ(0, pthread_join(threads[i], NULL));

  uint64_t accepted = 0;
  for (int i = 0; i < SENDERS; i++) accepted += senders[i].accepted;
  for (size_t tag = 0; tag < ledger.size; tag++)
    if (ledger.seen[tag] != taken[tag])
      FAIL("tag %zu is %s and reported %d times", tag, taken[tag] ? "accepted" : "refused",
           ledger.seen[tag]);
  CHECK_EQ(accepted, ledger.reported);
  if (ledger.failed) CHECK_EQ(PRODUCER_ERR_ABORTED, ledger.last_failure);
  if (timeout_ms != 0) CHECK_EQ(0, ledger.failed);
  CHECK_COUNTERS(producer, accepted - ledger.failed, ledger.failed);
  producer_error_t error;
  CHECK_FAILS(PRODUCER_ERR_CLOSED, producer_close(producer, 0, NULL, &error));
  producer_free(producer);
  ledger_free(&ledger);
}

int main(void) {
  producer_mock_cluster_t *cluster = new_cluster(2);
  for (int round = 0; round < 3; round++) {
    race(cluster, round * 5, 0);
    race(cluster, round * 5, 30000);
  }
  /* With a broker that answers late, a close that does not wait fails what is in flight. */
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, true, false, 200, 0));
  race(cluster, 20, 0);
  producer_mock_cluster_free(cluster);
  return 0;
}
