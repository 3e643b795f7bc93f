/*
 * serializers: objects of the program's own as Protobuf and as Thrift.
 *
 *   KAFKA_BOOTSTRAP=host:port serializers [TOPIC_FOR_PROTOBUF TOPIC_FOR_THRIFT]
 *
 * A record's value is a pointer to an order_t; what is sent is made of it by a serializer of ours,
 * inside producer_send(), in memory that the library lends. The key is the order's number, and
 * key.serializer=int64 makes bytes of that. The encoders are written by hand: a Protobuf message
 * and Thrift's compact protocol are varints, and bytes behind their length. Without KAFKA_BOOTSTRAP
 * there is a cluster inside this process.
 *
 *   message Item { string name = 1; int32 quantity = 2; }
 *   message Order { int64 number = 1; string customer = 2; repeated Item items = 3;
 *                   double total = 4; bool express = 5; }
 *
 *   struct Item { 1: string name, 2: i32 quantity }
 *   struct Order { 1: i64 number, 2: string customer, 3: list<Item> items,
 *                  4: double total, 5: bool express }
 */
#include <kafka_producer.h>
#include <kafka_producer_mock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const char *name;
  int32_t quantity;
} item_t;

typedef struct {
  int64_t number;
  const char *customer;
  const item_t *items;
  size_t item_count;
  double total;
  bool express;
} order_t;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "serializers: %s: %s\n", what, why);
  exit(1);
}

/* ---- Both: writing forwards into memory that is large enough ---- */

enum { LONGEST_VARINT = 10, FIELDS = 5 };

static uint8_t *put_varint(uint8_t *to, uint64_t number) {
  for (; number >= 128; number >>= 7) *to++ = (uint8_t)(number | 128);
  *to++ = (uint8_t)number;
  return to;
}

static size_t varint_size(uint64_t number) {
  size_t size = 1;
  while (number >>= 7) size++;
  return size;
}

static uint8_t *put_text(uint8_t *to, const char *text) {
  size_t len = strlen(text);
  to = put_varint(to, len);
  memcpy(to, text, len);
  return to + len;
}

/* Little-endian in either encoding. */
static uint8_t *put_double(uint8_t *to, double number) {
  uint64_t bits;
  memcpy(&bits, &number, sizeof bits);
  for (int i = 0; i < 8; i++) *to++ = (uint8_t)(bits >> 8 * i);
  return to;
}

/* More than an order takes in either encoding. */
static size_t most_bytes(const order_t *order) {
  size_t size = FIELDS * (1 + LONGEST_VARINT) + strlen(order->customer) + 1;
  for (size_t i = 0; i < order->item_count; i++) {
    size += strlen(order->items[i].name) + 2 * (1 + LONGEST_VARINT) + 1 + LONGEST_VARINT;
  }
  return size;
}

/* ---- Protobuf: fields of their default value are left out ---- */

enum { VARINT = 0, I64 = 1, LEN = 2 };

static uint8_t *put_tag(uint8_t *to, uint32_t field, uint32_t wire_type) {
  return put_varint(to, field << 3 | wire_type);
}

static uint8_t *put_protobuf_item(uint8_t *to, const item_t *item) {
  uint64_t quantity = (uint64_t)(int64_t)item->quantity;
  size_t name = strlen(item->name);
  size_t size = name > 0 ? 1 + varint_size(name) + name : 0;
  if (item->quantity != 0) size += 1 + varint_size(quantity);
  to = put_varint(put_tag(to, 3, LEN), size);
  if (name > 0) to = put_text(put_tag(to, 1, LEN), item->name);
  if (item->quantity != 0) to = put_varint(put_tag(to, 2, VARINT), quantity);
  return to;
}

static uint8_t *put_protobuf(uint8_t *to, const order_t *order) {
  if (order->number != 0) to = put_varint(put_tag(to, 1, VARINT), (uint64_t)order->number);
  if (order->customer[0] != 0) to = put_text(put_tag(to, 2, LEN), order->customer);
  for (size_t i = 0; i < order->item_count; i++) to = put_protobuf_item(to, &order->items[i]);
  if (order->total != 0) to = put_double(put_tag(to, 4, I64), order->total);
  if (order->express) to = put_varint(put_tag(to, 5, VARINT), 1);
  return to;
}

/* ---- Thrift's compact protocol: a field is its distance from the last and its type ---- */

enum { TRUE_FIELD = 1, FALSE_FIELD = 2, I32_FIELD = 5, I64_FIELD = 6, DOUBLE_FIELD = 7,
       BINARY_FIELD = 8, LIST_FIELD = 9, STRUCT_FIELD = 12, STOP = 0 };

static uint8_t *put_next_field(uint8_t *to, uint8_t type) {
  *to++ = (uint8_t)(1 << 4 | type);
  return to;
}

static uint8_t *put_zigzag(uint8_t *to, int64_t number) {
  return put_varint(to, (uint64_t)number << 1 ^ (number < 0 ? UINT64_MAX : 0));
}

static uint8_t *put_thrift(uint8_t *to, const order_t *order) {
  to = put_zigzag(put_next_field(to, I64_FIELD), order->number);
  to = put_text(put_next_field(to, BINARY_FIELD), order->customer);
  to = put_next_field(to, LIST_FIELD);
  if (order->item_count < 15) {
    *to++ = (uint8_t)(order->item_count << 4 | STRUCT_FIELD);
  } else {
    *to++ = 15 << 4 | STRUCT_FIELD;
    to = put_varint(to, order->item_count);
  }
  for (size_t i = 0; i < order->item_count; i++) {
    to = put_text(put_next_field(to, BINARY_FIELD), order->items[i].name);
    to = put_zigzag(put_next_field(to, I32_FIELD), order->items[i].quantity);
    *to++ = STOP;
  }
  to = put_double(put_next_field(to, DOUBLE_FIELD), order->total);
  to = put_next_field(to, order->express ? TRUE_FIELD : FALSE_FIELD);
  *to++ = STOP;
  return to;
}

/* ---- The serializers: `user_data` is the encoder ---- */

typedef struct {
  uint8_t *(*put)(uint8_t *to, const order_t *order);
} encoder_t;

static producer_status_t serialize_order(producer_slice_t topic, producer_slice_t input,
                                         producer_slice_t *output, producer_arena_t *arena,
                                         void *user_data) {
  (void)topic;
  const encoder_t *encoder = user_data;
  if (input.data == NULL) return PRODUCER_OK; /* null stays null: a tombstone */
  if (input.len != sizeof(order_t)) return PRODUCER_ERR_SERIALIZATION;
  const order_t *order = (const void *)input.data;
  if (order->customer == NULL) return PRODUCER_ERR_SERIALIZATION;
  uint8_t *bytes = producer_arena_alloc(arena, most_bytes(order));
  if (bytes == NULL) return PRODUCER_ERR_BUFFER_FULL;
  output->data = bytes;
  output->len = (size_t)(encoder->put(bytes, order) - bytes);
  return PRODUCER_OK;
}

static void send_orders(const char *servers, const char *topic, encoder_t encoder,
                        const order_t *orders, size_t count) {
  producer_error_t error = { 0 };
  producer_serializer_t serializer = { .struct_size = sizeof serializer };
  serializer.user_data = &encoder;
  serializer.serialize = serialize_order;
  producer_t *producer = NULL;
  producer_config_t *config = producer_config_new();
  if (producer_config_set(config, "bootstrap.servers", servers, &error) ||
      producer_config_set(config, "key.serializer", "int64", &error) ||
      producer_config_set_value_serializer(config, &serializer) ||
      producer_new(config, &producer, &error)) {
    fail("start", error.message);
  }
  producer_config_free(config);
  for (size_t i = 0; i < count; i++) {
    const order_t *order = &orders[i];
    producer_record_t record = {
      .topic = producer_str(topic),
      .key = { (const uint8_t *)&order->number, sizeof order->number },
      .value = { (const uint8_t *)order, sizeof *order },
    };
    producer_receipt_t receipt;
    if (producer_send_sync(producer, &record, PRODUCER_TIMEOUT_DEFAULT, &receipt, &error)) {
      fail("send", error.message);
    }
    printf("%s: order %lld is at offset %lld of partition %d\n", topic, (long long)order->number,
           (long long)receipt.offset, receipt.partition);
  }
  producer_free(producer);
}

int main(int argc, char **argv) {
  producer_error_t error = { 0 };
  producer_mock_cluster_t *cluster = NULL;
  const char *servers = getenv("KAFKA_BOOTSTRAP");
  if (servers == NULL) {
    if (producer_mock_cluster_new(1, &cluster, &error) != PRODUCER_OK) {
      fail("cluster", error.message);
    }
    servers = producer_mock_cluster_bootstrap_servers(cluster);
  }
  const item_t items[] = { { "gl\xc3\xbchbirne", 3 }, { "cable", -1 }, { "", 300000 } };
  const order_t orders[] = {
    { 150, "Ada", items, 3, 12.5, true },
    { -1, "", NULL, 0, 0, false },
  };
  const char *protobuf = argc == 3 ? argv[1] : "orders.protobuf";
  const char *thrift = argc == 3 ? argv[2] : "orders.thrift";
  send_orders(servers, protobuf, (encoder_t){ put_protobuf }, orders, 2);
  send_orders(servers, thrift, (encoder_t){ put_thrift }, orders, 2);
  producer_mock_cluster_free(cluster);
  return 0;
}
