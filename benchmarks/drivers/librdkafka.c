/*
 * librdkafka's driver. --library names the shared object, which is loaded when the program starts.
 *
 * Who serves the delivery reports is up to the application. One thread that sends as fast as it can
 * does it itself, now and then and when the queue is full: on two cores that is up to twice as fast
 * as a thread of its own. Where records are paced, or several threads send, it is a thread of its
 * own, and a send that finds the queue full waits inside of rd_kafka_produce().
 */
#include "driver.h"
#include "rdkafka.h"
#include <dlfcn.h>
#include <stdatomic.h>

#define DECLARE(name, result, arguments) static result(*name##_) arguments;
RD_KAFKA_FUNCTIONS(DECLARE)

enum { POLL_MS = 100, FULL_MS = 1, FLUSH_MS = 120000, SERVE_EVERY = 256 };

static rd_kafka_t *producer;
static rd_kafka_topic_t *topic;
static pthread_t poller;
static atomic_bool polling;
static bool serves_itself;
static unsigned unserved;

static const char *client_name(void) { return "librdkafka"; }
static const char *client_version(void) { return rd_kafka_version_str_(); }

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
  (void)rk, (void)opaque;
  uint64_t now = wants_latencies() ? now_ns() : 0;
  deliver((uintptr_t)message->_private, message->err == 0,
          message->err ? rd_kafka_err2str_(message->err) : "", now);
}

static void *run_poller(void *unused) {
  while (atomic_load(&polling)) rd_kafka_poll_(producer, POLL_MS);
  return unused;
}

static void start_poller(void) {
  if (serves_itself) return;
  atomic_store(&polling, true);
  if (pthread_create(&poller, NULL, run_poller, NULL) != 0) die("threads", "cannot start one");
}

static void stop_poller(void) {
  if (serves_itself) return;
  atomic_store(&polling, false);
  pthread_join(poller, NULL);
}

static void load(const char *library) {
  if (!library) die("--library", "is missing: librdkafka's shared object");
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle) die("dlopen", dlerror());
#define LOAD(name, result, arguments)                                                              \
  *(void **)&name##_ = dlsym(handle, #name);                                                       \
  if (!name##_) die("dlsym", #name);
  RD_KAFKA_FUNCTIONS(LOAD)
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
  char why[512];
  if (value && rd_kafka_conf_set_(conf, key, value, why, sizeof why) != RD_KAFKA_CONF_OK)
    die(key, why);
}

static void client_open(const options_t *o) {
  load(o->library);
  serves_itself = o->threads == 1 && o->rate == 0;
  rd_kafka_conf_t *conf = rd_kafka_conf_new_();
  set(conf, "bootstrap.servers", o->bootstrap);
  set(conf, "acks", o->acks);
  set(conf, "linger.ms", o->linger_ms);
  set(conf, "batch.size", o->batch_size);
  for (size_t i = 0; i < o->setting_count; i++) set(conf, o->settings[i].key, o->settings[i].value);
  rd_kafka_conf_set_dr_msg_cb_(conf, on_delivery);
  char why[512];
  producer = rd_kafka_new_(RD_KAFKA_PRODUCER, conf, why, sizeof why);
  if (!producer) die("rd_kafka_new", why);
  topic = rd_kafka_topic_new_(producer, o->topic, NULL);
  if (!topic) die("rd_kafka_topic_new", rd_kafka_err2str_(rd_kafka_last_error_()));
  start_poller();
}

/* Serves reports if it is time; whether the same call is worth another try. */
static bool serve(int error) {
  if (!serves_itself) return false;
  if (error == 0 && ++unserved % SERVE_EVERY == 0) rd_kafka_poll_(producer, 0);
  if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL) return false;
  rd_kafka_poll_(producer, FULL_MS);
  return true;
}

static int message_flags(void) {
  return RD_KAFKA_MSG_F_COPY | (serves_itself ? 0 : RD_KAFKA_MSG_F_BLOCK);
}

static void client_send(const outgoing_t *record) {
  int error;
  do {
    error = rd_kafka_produce_(topic, record->partition, message_flags(),
                              (void *)(uintptr_t)record->value, options.size, NULL, 0,
                              (void *)(uintptr_t)record->tag);
    if (error) error = rd_kafka_last_error_();
  } while (serve(error));
  if (error) die("rd_kafka_produce", rd_kafka_err2str_(error));
}

static size_t client_room(const options_t *o) { return o->batch * sizeof(rd_kafka_message_t); }

static void client_send_batch(const outgoing_t *records, size_t count, void *room) {
  rd_kafka_message_t *messages = room;
  for (size_t i = 0; i < count; i++) {
    messages[i].partition = records[i].partition;
    messages[i].payload = (void *)(uintptr_t)records[i].value;
    messages[i].len = options.size;
    messages[i]._private = (void *)(uintptr_t)records[i].tag;
  }
  /* What was not taken is marked with an error, anywhere in the array: sent again, in order. */
  while (count > 0) {
    int flags = message_flags() | RD_KAFKA_MSG_F_PARTITION;
    size_t taken = (size_t)rd_kafka_produce_batch_(topic, 0, flags, messages, (int)count);
    if (taken == count) break;
    size_t left = 0;
    int error = 0;
    for (size_t i = 0; i < count; i++) {
      if (!messages[i].err) continue;
      error = messages[i].err;
      messages[left++] = messages[i];
    }
    if (!serve(error)) die("rd_kafka_produce_batch", rd_kafka_err2str_(error));
    count = left;
  }
  serve(0);
}

static void client_flush(void) {
  /* Reports come to one thread at a time: to this one, from here on. */
  stop_poller();
  int error = rd_kafka_flush_(producer, FLUSH_MS);
  if (error) die("rd_kafka_flush", rd_kafka_err2str_(error));
  start_poller();
}

static void client_close(void) {
  stop_poller();
  rd_kafka_topic_destroy_(topic);
  rd_kafka_destroy_(producer);
}
