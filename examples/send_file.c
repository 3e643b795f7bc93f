/*
 * send_file: sends each line of a file as a record.
 *
 *   KAFKA_BOOTSTRAP=host:port send_file FILE TOPIC [--key-delimiter C] [-X KEY=VALUE]...
 *
 * With --key-delimiter the text before the first C of a line is the record's key; a line without C,
 * and every line without --key-delimiter, has no key. FILE - is the standard input. -X sets any key
 * of the producer's configuration; acks=all unless -X says otherwise.
 *
 * A record that failed and was surely not written is sent again, up to three times in all, then
 * behind others of its partition. One that may have been written is not, lest it be there twice.
 * Memory is bounded by buffer.memory and max.request.size, whatever the file's size.
 *
 * Exit status: 0: every line is delivered. 1: not all; the standard output names the lines that are
 * not, and apart from them those that may be. 2: wrong usage, or the file can't be read.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <kafka_producer.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
  ATTEMPTS = 3,
  POLL_DELIVERIES = 64, /* taken by one poll */
  REASONS = 10,         /* told in full, the others are left out */
};
/* So many lines without success, and the rest of the file is not tried: what is remembered of them
 * stays bounded as well. */
#define MAX_FAILED 1000000

/* A tag: the line's number, and in the upper byte how often it was sent before. */
#define LINE_BITS 56
#define LINE_MASK ((UINT64_C(1) << LINE_BITS) - 1)

/* ---- Lists ---- */

typedef struct {
  uint64_t first, last;
} range_t;

/* Lines that are not, or may be, delivered. */
typedef struct {
  range_t *ranges;
  size_t count, capacity;
  uint64_t lines;
} lines_t;

/* A record that waits to be sent again, with its bytes. */
typedef struct resend {
  struct resend *next;
  producer_record_t record;
  uint8_t bytes[];
} resend_t;

typedef struct {
  producer_t *producer;
  producer_slice_t topic;
  int delimiter; /* -1: none */
  uint64_t sent, accepted, settled, delivered, bytes;
  lines_t lost, unsure;
  resend_t *resends, **resends_end;
  bool stopped; /* a record was refused for a reason that all others share */
  int reasons;
  const char *file_name;
} sender_t;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "send_file: %s: %s\n", what, why);
  exit(2);
}

static void *check_memory(void *memory) {
  if (memory == NULL) fail("memory", "exhausted");
  return memory;
}

static void add_line(lines_t *lines, uint64_t line) {
  lines->lines++;
  if (lines->count > 0 && lines->ranges[lines->count - 1].last + 1 == line) {
    lines->ranges[lines->count - 1].last = line;
    return;
  }
  if (lines->count == lines->capacity) {
    lines->capacity = lines->capacity == 0 ? 64 : 2 * lines->capacity;
    lines->ranges = check_memory(realloc(lines->ranges, lines->capacity * sizeof(range_t)));
  }
  lines->ranges[lines->count++] = (range_t){ line, line };
}

static int compare_ranges(const void *a, const void *b) {
  uint64_t left = ((const range_t *)a)->first, right = ((const range_t *)b)->first;
  return (left > right) - (left < right);
}

/* Prints "TITLE: 3, 17-20"; with `open_from`, that line and all behind it too: "TITLE: 3, 17-". */
static void print_lines(const char *title, lines_t *lines, uint64_t open_from) {
  if (lines->count == 0 && open_from == 0) return;
  const char *separator = " ";
  printf("%s:", title);
  if (lines->count > 0) qsort(lines->ranges, lines->count, sizeof(range_t), compare_ranges);
  for (size_t i = 0; i < lines->count;) {
    range_t range = lines->ranges[i++];
    while (i < lines->count && lines->ranges[i].first == range.last + 1) {
      range.last = lines->ranges[i++].last;
    }
    printf("%s%" PRIu64, separator, range.first);
    if (range.last > range.first) printf("-%" PRIu64, range.last);
    separator = ", ";
  }
  if (open_from != 0) printf("%s%" PRIu64 "-", separator, open_from);
  printf("\n");
}

/* ---- Progress ---- */

/* A line that is written again and again, on a terminal only. */
static void show_progress(const sender_t *sender) {
  static uint64_t shown_ms;
  struct timespec now;
  if (!isatty(STDERR_FILENO) || clock_gettime(CLOCK_MONOTONIC, &now) != 0) return;
  uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  if (now_ms - shown_ms < 100) return;
  shown_ms = now_ms;
  fprintf(stderr, "\r\033[K%s: %" PRIu64 " lines, %.1f MB sent, %" PRIu64 " delivered",
          sender->file_name, sender->sent, (double)sender->bytes / 1e6, sender->delivered);
}

static void end_progress(void) {
  if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
}

static void tell_reason(sender_t *sender, uint64_t line, const char *reason) {
  if (sender->reasons > REASONS) return;
  end_progress();
  if (sender->reasons++ < REASONS) {
    fprintf(stderr, "line %" PRIu64 ": %s\n", line, reason);
  } else {
    fprintf(stderr, "more lines failed, their reasons are left out\n");
  }
}

/* ---- Outcomes ---- */

/* Keeps a failed record until there is room to send it: its bytes are the library's until the next
 * poll. */
static void send_later(sender_t *sender, const producer_record_t *record, uint64_t tag) {
  size_t key_len = record->key.len, value_len = record->value.len;
  resend_t *resend = check_memory(malloc(sizeof *resend + key_len + value_len));
  *resend = (resend_t){ .record = *record };
  resend->record.topic = sender->topic;
  resend->record.tag = tag;
  if (record->key.data != NULL) {
    if (key_len > 0) memcpy(resend->bytes, record->key.data, key_len);
    resend->record.key.data = resend->bytes;
  }
  if (value_len > 0) memcpy(resend->bytes + key_len, record->value.data, value_len);
  resend->record.value.data = resend->bytes + key_len;
  *sender->resends_end = resend;
  sender->resends_end = &resend->next;
}

static void take_failure(sender_t *sender, const producer_delivery_t *delivery) {
  bool unsure = (delivery->flags & PRODUCER_MAYBE_PERSISTED) != 0;
  bool again = !unsure && (delivery->flags & PRODUCER_RETRIABLE) != 0;
  producer_cursor_t cursor = { { 0 } };
  producer_record_t record;
  for (uint32_t i = 0; i < delivery->count; i++) {
    uint64_t tag = delivery->tags[i], line = tag & LINE_MASK;
    bool has_record = producer_delivery_next(delivery, &cursor, &record);
    if (again && has_record && (tag >> LINE_BITS) + 1 < ATTEMPTS) {
      send_later(sender, &record, tag + LINE_MASK + 1);
      continue;
    }
    add_line(unsure ? &sender->unsure : &sender->lost, line);
    tell_reason(sender, line, delivery->failure->message);
  }
}

/* Takes what outcomes there are; waits up to timeout_ms for the first. */
static void take_deliveries(sender_t *sender, int32_t timeout_ms) {
  producer_delivery_t deliveries[POLL_DELIVERIES];
  size_t count = POLL_DELIVERIES;
  while (count == POLL_DELIVERIES) {
    if (producer_poll(sender->producer, deliveries, POLL_DELIVERIES, timeout_ms, &count)) {
      fail("poll", "the producer gives no deliveries");
    }
    for (size_t i = 0; i < count; i++) {
      sender->settled += deliveries[i].count;
      if (deliveries[i].status == PRODUCER_OK) sender->delivered += deliveries[i].count;
      else take_failure(sender, &deliveries[i]);
    }
    timeout_ms = 0;
  }
  show_progress(sender);
}

/* ---- Sending ---- */

/* Sends a record, making room for it. */
static void send_record(sender_t *sender, const producer_record_t *record) {
  uint64_t line = record->tag & LINE_MASK;
  producer_error_t error;
  producer_status_t status;
  while ((status = producer_send(sender->producer, record, &error)) == PRODUCER_ERR_BUFFER_FULL &&
         sender->accepted > sender->settled) {
    take_deliveries(sender, 100);
  }
  if (status == PRODUCER_OK) {
    sender->accepted++;
    return;
  }
  add_line(&sender->lost, line);
  tell_reason(sender, line, error.message);
  sender->stopped = status != PRODUCER_ERR_MESSAGE_TOO_LARGE;
}

static void send_again(sender_t *sender) {
  while (sender->resends != NULL) {
    resend_t *resend = sender->resends;
    sender->resends = resend->next;
    if (sender->resends == NULL) sender->resends_end = &sender->resends;
    if (sender->stopped) add_line(&sender->lost, resend->record.tag & LINE_MASK);
    else send_record(sender, &resend->record);
    free(resend);
  }
}

static void send_line(sender_t *sender, const char *line, size_t len, uint64_t number) {
  producer_record_t record = { .topic = sender->topic, .tag = number };
  const char *delimiter = NULL;
  if (sender->delimiter >= 0 && len > 0) delimiter = memchr(line, sender->delimiter, len);
  if (delimiter != NULL) {
    size_t key_len = (size_t)(delimiter - line);
    record.key = (producer_slice_t){ (const uint8_t *)line, key_len };
    line = delimiter + 1;
    len -= key_len + 1;
  }
  record.value = (producer_slice_t){ (const uint8_t *)line, len };
  sender->sent = number;
  sender->bytes += len;
  send_record(sender, &record);
}

/* ---- Reading ---- */

/* Reads lines of up to `limit` bytes; of a longer one it keeps nothing but that it is too long. */
typedef struct {
  sender_t *sender;
  int file;
  int error;  /* errno of a read that failed */
  char *line; /* without its end; never NULL */
  size_t len, capacity, limit;
  bool too_long;
  uint64_t number;
  size_t at, filled;
  char block[1 << 16];
} reader_t;

static void append(reader_t *reader, const char *piece, size_t len) {
  if (reader->too_long || len > reader->limit - reader->len) {
    reader->too_long = true;
    return;
  }
  if (reader->len + len > reader->capacity) {
    reader->capacity = 2 * (reader->len + len);
    reader->line = check_memory(realloc(reader->line, reader->capacity));
  }
  memcpy(reader->line + reader->len, piece, len);
  reader->len += len;
}

/* Waits until the file has bytes, which a pipe may not have for long, and takes deliveries
 * meanwhile. False at the end of the file, and where it can't be read. */
static bool fill(reader_t *reader) {
  struct pollfd waiting[] = {
    { .fd = reader->file, .events = POLLIN },
    { .fd = producer_poll_fd(reader->sender->producer), .events = POLLIN },
  };
  do {
    poll(waiting, 2, -1);
    if (waiting[1].revents != 0) take_deliveries(reader->sender, 0);
    send_again(reader->sender);
  } while (waiting[0].revents == 0);
  ssize_t filled = read(reader->file, reader->block, sizeof reader->block);
  if (filled < 0) reader->error = errno;
  reader->at = 0;
  reader->filled = filled > 0 ? (size_t)filled : 0;
  return filled > 0;
}

/* False at the end of the file. A last line needs no newline. */
static bool next_line(reader_t *reader) {
  bool begun = false;
  reader->len = 0;
  reader->too_long = false;
  for (;;) {
    if (reader->at == reader->filled && !fill(reader)) break;
    begun = true;
    const char *piece = reader->block + reader->at;
    const char *end = memchr(piece, '\n', reader->filled - reader->at);
    size_t len = end != NULL ? (size_t)(end - piece) : reader->filled - reader->at;
    append(reader, piece, len);
    reader->at += len + (end != NULL);
    if (end != NULL) break;
  }
  reader->number += begun;
  return begun;
}

/* Sends all lines; 0, or the number of the first line that was not tried. */
static uint64_t send_lines(sender_t *sender, reader_t *reader) {
  while (next_line(reader)) {
    if (reader->too_long) {
      tell_reason(sender, reader->number, "longer than max.request.size");
      add_line(&sender->lost, reader->number);
    } else {
      send_line(sender, reader->line, reader->len, reader->number);
    }
    send_again(sender);
    if (sender->stopped || sender->lost.lines + sender->unsure.lines >= MAX_FAILED) {
      return next_line(reader) ? reader->number : 0;
    }
  }
  return 0;
}

/* Waits until every record has its outcome, those sent again too. */
static void settle(sender_t *sender) {
  producer_error_t error;
  while (sender->accepted > sender->settled) {
    producer_status_t status = producer_flush(sender->producer, 0, &error);
    if (status != PRODUCER_OK && status != PRODUCER_ERR_TIMED_OUT) fail("flush", error.message);
    take_deliveries(sender, 100);
    send_again(sender);
  }
  end_progress();
}

/* ---- Start ---- */

static void set(producer_config_t *config, const char *key, const char *value) {
  producer_error_t error;
  if (producer_config_set(config, key, value, &error) != PRODUCER_OK) fail(key, error.message);
}

static void set_pair(producer_config_t *config, char *pair) {
  char *equals = strchr(pair, '=');
  if (equals == NULL) fail(pair, "-X wants KEY=VALUE");
  *equals = '\0';
  set(config, pair, equals + 1);
}

static void on_log(producer_log_level_t level, const char *target, const char *message,
                   void *user_data) {
  (void)level, (void)user_data;
  end_progress();
  fprintf(stderr, "%s: %s\n", target, message);
}

static producer_config_t *configure(int argc, char **argv, sender_t *sender) {
  const char *names[2] = { NULL, NULL };
  int name_count = 0;
  producer_config_t *config = check_memory(producer_config_new());
  const char *servers = getenv("KAFKA_BOOTSTRAP");
  if (servers != NULL) set(config, "bootstrap.servers", servers);
  set(config, "acks", "all");
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "-X") == 0 && i + 1 < argc) {
      set_pair(config, argv[++i]);
    } else if (strcmp(argv[i], "--key-delimiter") == 0 && i + 1 < argc) {
      if (strlen(argv[++i]) != 1) fail(argv[i], "--key-delimiter wants one character");
      sender->delimiter = (unsigned char)argv[i][0];
    } else if ((argv[i][0] == '-' && argv[i][1] != '\0') || name_count == 2) {
      fail(argv[i], "unknown argument");
    } else {
      names[name_count++] = argv[i];
    }
  }
  if (servers == NULL || name_count != 2) {
    fail("usage", "KAFKA_BOOTSTRAP=host:port send_file FILE TOPIC [--key-delimiter C] "
                  "[-X KEY=VALUE]...");
  }
  sender->file_name = names[0];
  sender->topic = producer_str(names[1]);
  return config;
}

static void start(producer_config_t *config, sender_t *sender) {
  producer_error_t error = { 0 };
  if (producer_config_enable_poll(config) ||
      producer_config_set_log_callback(config, PRODUCER_LOG_WARNING, on_log, NULL) ||
      producer_new(config, &sender->producer, &error)) {
    fail("start", error.message);
  }
}

int main(int argc, char **argv) {
  sender_t sender = { .delimiter = -1 };
  sender.resends_end = &sender.resends;
  producer_config_t *config = configure(argc, argv, &sender);
  bool is_stdin = strcmp(sender.file_name, "-") == 0;
  reader_t *reader = check_memory(calloc(1, sizeof *reader));
  reader->sender = &sender;
  reader->file = is_stdin ? STDIN_FILENO : open(sender.file_name, O_RDONLY | O_CLOEXEC);
  if (reader->file < 0) fail(sender.file_name, strerror(errno));
  reader->limit = strtoul(producer_config_get(config, "max.request.size"), NULL, 10);
  reader->capacity = 4096;
  reader->line = check_memory(malloc(reader->capacity));
  start(config, &sender);
  producer_config_free(config);

  uint64_t untried_from = send_lines(&sender, reader);
  settle(&sender);
  producer_error_t error;
  if (producer_close(sender.producer, PRODUCER_TIMEOUT_DEFAULT, NULL, &error) != PRODUCER_OK) {
    fail("close", error.message);
  }
  producer_free(sender.producer);

  fprintf(stderr, "send_file: %" PRIu64 " lines delivered\n", sender.delivered);
  print_lines("not delivered", &sender.lost, untried_from);
  print_lines("may be delivered", &sender.unsure, 0);
  int result = sender.lost.lines != 0 || sender.unsure.lines != 0 || untried_from != 0;
  if (reader->error != 0) {
    fprintf(stderr, "send_file: %s: %s\n", sender.file_name, strerror(reader->error));
    result = 2;
  }
  if (!is_stdin) close(reader->file);
  free(reader->line);
  free(reader);
  free(sender.lost.ranges);
  free(sender.unsure.ranges);
  return result;
}
