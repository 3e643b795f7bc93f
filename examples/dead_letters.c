/*
 * dead_letters: keeps the records that fail in a file, and sends them when it runs again.
 *
 *   KAFKA_BOOTSTRAP=host:port dead_letters FILE [TOPIC] [-X KEY=VALUE]...
 *
 * First the records in FILE are sent, as they were the first time: same topic, partition, time,
 * key, value and headers. Then, with TOPIC, each line of the standard input. What fails goes to
 * FILE, which is gone when nothing did.
 *
 * A record that failed with PRODUCER_MAYBE_PERSISTED may be in the topic already: sent again it may
 * be there twice. This program sends it nevertheless and says how many there were. Records that are
 * sent again come behind others of their partition that were not so unlucky.
 *
 * Exit status: 0: all are delivered. 1: FILE has records. 2: wrong usage, or a file failed.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <inttypes.h>
#include <kafka_producer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_DELIVERIES = 64, MAX_HEADERS = 1024, MAX_BYTES = 1 << 30 };

typedef struct {
  producer_t *producer;
  const char *file_name;
  FILE *file; /* opened with the first record that fails */
  uint64_t accepted, settled, delivered, failed, unsure;
  bool stopped; /* the producer takes nothing more: what comes is kept and not tried */
} sender_t;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "dead_letters: %s: %s\n", what, why);
  exit(2);
}

static void *check_memory(void *memory) {
  if (memory == NULL) fail("memory", "exhausted");
  return memory;
}

/* ---- Letters: numbers in this machine's order, bytes behind their length, which is -1 for null.
 * The file is read where it was written. ---- */

static void put(FILE *file, const void *data, size_t len) {
  if (len > 0 && fwrite(data, len, 1, file) != 1) fail("write", strerror(errno));
}

static void put_slice(FILE *file, producer_slice_t slice) {
  int64_t len = slice.data == NULL ? -1 : (int64_t)slice.len;
  put(file, &len, sizeof len);
  if (len > 0) put(file, slice.data, slice.len);
}

static void put_letter(FILE *file, const producer_record_t *record) {
  uint64_t header_count = record->header_count;
  put(file, &record->flags, sizeof record->flags);
  put(file, &record->partition, sizeof record->partition);
  put(file, &record->timestamp_ms, sizeof record->timestamp_ms);
  put_slice(file, record->topic);
  put_slice(file, record->key);
  put_slice(file, record->value);
  put(file, &header_count, sizeof header_count);
  for (size_t i = 0; i < record->header_count; i++) {
    put_slice(file, record->headers[i].key);
    put_slice(file, record->headers[i].value);
  }
}

static void get(FILE *file, void *data, size_t len) {
  if (len > 0 && fread(data, len, 1, file) != 1) fail("read", "the file ends within a record");
}

static producer_slice_t get_slice(FILE *file) {
  int64_t len;
  get(file, &len, sizeof len);
  if (len < 0) return (producer_slice_t){ NULL, 0 };
  if (len > MAX_BYTES) fail("read", "this is no file of dead letters");
  uint8_t *data = check_memory(malloc((size_t)len + 1));
  get(file, data, (size_t)len);
  return (producer_slice_t){ data, (size_t)len };
}

/* False at the end of the file. */
static bool get_letter(FILE *file, producer_record_t *record, producer_header_t *headers) {
  *record = (producer_record_t){ .headers = headers };
  int first = getc(file);
  if (first == EOF) return false;
  ungetc(first, file);
  uint64_t header_count;
  get(file, &record->flags, sizeof record->flags);
  get(file, &record->partition, sizeof record->partition);
  get(file, &record->timestamp_ms, sizeof record->timestamp_ms);
  record->topic = get_slice(file);
  record->key = get_slice(file);
  record->value = get_slice(file);
  get(file, &header_count, sizeof header_count);
  if (header_count > MAX_HEADERS) fail("read", "this is no file of dead letters");
  for (record->header_count = 0; record->header_count < header_count; record->header_count++) {
    headers[record->header_count].key = get_slice(file);
    headers[record->header_count].value = get_slice(file);
  }
  return true;
}

static void free_letter(producer_record_t *record) {
  for (size_t i = 0; i < record->header_count; i++) {
    free((void *)record->headers[i].key.data);
    free((void *)record->headers[i].value.data);
  }
  free((void *)record->topic.data);
  free((void *)record->key.data);
  free((void *)record->value.data);
}

/* ---- Outcomes ---- */

static void keep(sender_t *sender, const producer_record_t *record, const char *reason) {
  if (sender->failed++ == 0) fprintf(stderr, "dead_letters: %s\n", reason);
  if (sender->file == NULL) sender->file = fopen(sender->file_name, "ab");
  if (sender->file == NULL) fail(sender->file_name, strerror(errno));
  put_letter(sender->file, record);
}

static void take_deliveries(sender_t *sender, int32_t timeout_ms) {
  producer_delivery_t deliveries[POLL_DELIVERIES];
  size_t count;
  if (producer_poll(sender->producer, deliveries, POLL_DELIVERIES, timeout_ms, &count)) {
    fail("poll", "the producer gives no deliveries");
  }
  for (size_t i = 0; i < count; i++) {
    const producer_delivery_t *delivery = &deliveries[i];
    sender->settled += delivery->count;
    if (delivery->status == PRODUCER_OK) {
      sender->delivered += delivery->count;
      continue;
    }
    if (delivery->flags & PRODUCER_MAYBE_PERSISTED) sender->unsure += delivery->count;
    producer_cursor_t cursor = { { 0 } };
    producer_record_t record;
    /* Each record as it was sent, with PRODUCER_RECORD_AS_IS. */
    while (producer_delivery_next(delivery, &cursor, &record)) {
      keep(sender, &record, delivery->failure->message);
    }
  }
}

static void send_record(sender_t *sender, const producer_record_t *record) {
  producer_error_t error = { .message = "not tried" };
  producer_status_t status = PRODUCER_ERR_CLOSED;
  while (!sender->stopped &&
         (status = producer_send(sender->producer, record, &error)) == PRODUCER_ERR_BUFFER_FULL &&
         sender->accepted > sender->settled) {
    take_deliveries(sender, 100);
  }
  if (status == PRODUCER_OK) {
    sender->accepted++;
  } else {
    /* A record that is too large is not the next one's trouble; no broker is. */
    if (status != PRODUCER_ERR_MESSAGE_TOO_LARGE) sender->stopped = true;
    keep(sender, record, error.message);
  }
}

/* ---- The two sources ---- */

/* Sends what is in the file. It is put aside meanwhile and removed at the end: if this is killed in
 * between, the next run sends all of it, some of it twice. */
static void send_letters(sender_t *sender, const char *aside) {
  if (access(aside, F_OK) != 0 && rename(sender->file_name, aside) != 0 && errno != ENOENT) {
    fail(sender->file_name, strerror(errno));
  }
  FILE *file = fopen(aside, "rb");
  if (file == NULL) return;
  producer_record_t record;
  producer_header_t headers[MAX_HEADERS];
  while (get_letter(file, &record, headers)) {
    send_record(sender, &record);
    free_letter(&record);
  }
  fclose(file);
}

static void send_lines(sender_t *sender, const char *topic) {
  char *line = NULL;
  size_t capacity = 0;
  ssize_t len;
  while ((len = getline(&line, &capacity, stdin)) >= 0) {
    if (len > 0 && line[len - 1] == '\n') len--;
    producer_record_t record = { .topic = producer_str(topic),
                                 .value = { (const uint8_t *)line, (size_t)len } };
    send_record(sender, &record);
  }
  free(line);
}

int main(int argc, char **argv) {
  const char *names[2] = { NULL, NULL }, *servers = getenv("KAFKA_BOOTSTRAP");
  int name_count = 0;
  sender_t sender = { 0 };
  producer_error_t error = { 0 };
  producer_config_t *config = check_memory(producer_config_new());
  for (int i = 1; i < argc; i++) {
    char *equals = NULL;
    if (strcmp(argv[i], "-X") == 0 && i + 1 < argc && (equals = strchr(argv[++i], '=')) != NULL) {
      *equals = '\0';
      if (producer_config_set(config, argv[i], equals + 1, &error)) fail(argv[i], error.message);
    } else if (argv[i][0] == '-' || name_count == 2) {
      fail(argv[i], "unknown argument");
    } else {
      names[name_count++] = argv[i];
    }
  }
  if (servers == NULL || name_count == 0) {
    fail("usage", "KAFKA_BOOTSTRAP=host:port dead_letters FILE [TOPIC] [-X KEY=VALUE]...");
  }
  sender.file_name = names[0];
  if (producer_config_set(config, "bootstrap.servers", servers, &error) ||
      producer_config_enable_poll(config) || producer_new(config, &sender.producer, &error)) {
    fail("start", error.message);
  }
  producer_config_free(config);

  size_t aside_size = strlen(sender.file_name) + sizeof ".sending";
  char *aside = check_memory(malloc(aside_size));
  snprintf(aside, aside_size, "%s.sending", sender.file_name);
  send_letters(&sender, aside);
  if (names[1] != NULL) send_lines(&sender, names[1]);

  /* Without lingering; and then the outcomes as they come. */
  producer_flush(sender.producer, 0, NULL);
  while (sender.accepted > sender.settled) take_deliveries(&sender, 1000);
  producer_close(sender.producer, PRODUCER_TIMEOUT_DEFAULT, NULL, NULL);
  producer_free(sender.producer);

  /* Only what is surely kept may be forgotten here. */
  if (sender.file != NULL &&
      (fflush(sender.file) != 0 || fsync(fileno(sender.file)) != 0 || fclose(sender.file) != 0)) {
    fail(sender.file_name, strerror(errno));
  }
  if (remove(aside) != 0 && errno != ENOENT) fail(aside, strerror(errno));
  free(aside);
  printf("%" PRIu64 " delivered, %" PRIu64 " kept in %s", sender.delivered, sender.failed,
         sender.file_name);
  if (sender.unsure > 0) printf(" (%" PRIu64 " of them may be delivered)", sender.unsure);
  printf("\n");
  return sender.failed > 0;
}
