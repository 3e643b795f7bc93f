/* This library's driver, on its public header. */
#include "driver.h"
#include <kafka_producer.h>

static producer_t *producer;
static producer_record_t prototype;

static const char *client_name(void) { return "kafka_producer"; }
static const char *client_version(void) { return producer_version(); }

static void on_delivery(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  (void)user_data;
  uint64_t now = wants_latencies() ? now_ns() : 0;
  for (size_t i = 0; i < count; i++) {
    const producer_delivery_t *run = &deliveries[i];
    const char *why = run->failure ? run->failure->message : "";
    for (uint32_t j = 0; j < run->count; j++)
      deliver(run->tags[j], run->status == PRODUCER_OK, why, now);
  }
}

static void set(producer_config_t *config, const char *key, const char *value) {
  producer_error_t error;
  if (value && producer_config_set(config, key, value, &error) != PRODUCER_OK)
    die(key, error.message);
}

static void client_open(const options_t *o) {
  producer_config_t *config = producer_config_new();
  set(config, "bootstrap.servers", o->bootstrap);
  set(config, "acks", o->acks);
  set(config, "linger.ms", o->linger_ms);
  set(config, "batch.size", o->batch_size);
  for (size_t i = 0; i < o->setting_count; i++)
    set(config, o->settings[i].key, o->settings[i].value);
  producer_error_t error;
  if (producer_config_set_delivery_callback(config, on_delivery, NULL) != PRODUCER_OK ||
      producer_new(config, &producer, &error) != PRODUCER_OK)
    die("producer_new", error.message);
  producer_config_free(config);
  prototype.topic = producer_str(o->topic);
  prototype.value.len = o->size;
  prototype.flags = PRODUCER_RECORD_HAS_PARTITION;
}

static inline void fill(producer_record_t *record, const outgoing_t *from) {
  record->value.data = from->value;
  record->partition = from->partition;
  record->tag = from->tag;
}

static void client_send(const outgoing_t *from) {
  static _Thread_local producer_record_t record;
  producer_error_t error;
  if (!record.topic.data) record = prototype;
  fill(&record, from);
  if (producer_send(producer, &record, &error) != PRODUCER_OK) die("producer_send", error.message);
}

static size_t client_room(const options_t *o) { return o->batch * sizeof(producer_record_t); }

static void client_send_batch(const outgoing_t *from, size_t count, void *room) {
  producer_record_t *records = room;
  producer_error_t error;
  if (!records[0].topic.data)
    for (size_t i = 0; i < options.batch; i++) records[i] = prototype;
  for (size_t i = 0; i < count; i++) fill(&records[i], &from[i]);
  size_t accepted;
  producer_status_t status =
      producer_send_batch(producer, records, count, PRODUCER_TIMEOUT_DEFAULT, &accepted, &error);
  if (status != PRODUCER_OK) die("producer_send_batch", error.message);
}

static void client_flush(void) {
  producer_error_t error;
  if (producer_flush(producer, PRODUCER_TIMEOUT_DEFAULT, &error) != PRODUCER_OK)
    die("producer_flush", error.message);
}

static void client_close(void) {
  producer_error_t error;
  if (producer_close(producer, PRODUCER_TIMEOUT_DEFAULT, NULL, &error) != PRODUCER_OK)
    die("producer_close", error.message);
  producer_free(producer);
}
