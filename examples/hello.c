/* hello: sends one record. Usage: hello [HOST:PORT], of a Kafka broker. */
#include <inttypes.h>
#include <kafka_producer.h>
#include <stdio.h>

static void on_delivery(const producer_delivery_t *delivery, size_t count, void *failed) {
  for (size_t i = 0; i < count; i++, delivery++) {
    if (delivery->status == PRODUCER_OK) {
      printf("partition %" PRId32 ", offset %" PRId64 "\n", delivery->partition,
             delivery->base_offset);
    } else {
      fprintf(stderr, "not delivered: %s\n", delivery->failure->message);
      *(bool *)failed = true;
    }
  }
}

int main(int argc, char **argv) {
  bool failed = false;
  producer_error_t error = { 0 };
  producer_t *producer = NULL;
  producer_config_t *config = producer_config_new();
  producer_record_t record = { .topic = producer_str("hello"), .value = producer_str("world") };
  const char *servers = argc > 1 ? argv[1] : "localhost:9092";
  if (producer_config_set(config, "bootstrap.servers", servers, &error) ||
      producer_config_set_delivery_callback(config, on_delivery, &failed) ||
      producer_new(config, &producer, &error) || producer_send(producer, &record, &error) ||
      producer_close(producer, PRODUCER_TIMEOUT_DEFAULT, NULL, &error)) {
    fprintf(stderr, "%s\n", error.message);
    failed = true;
  }
  producer_free(producer);
  producer_config_free(config);
  return failed;
}
