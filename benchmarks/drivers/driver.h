/*
 * What the drivers of all clients share: arguments, values to send, pacing, counting, the result.
 * A driver is one C file that includes this one and defines the client_ functions; the compiler
 * sees all of it at once, so that nothing but the client is between two records.
 *
 *   DRIVER --bootstrap HOST:PORT [--topic T] [--records N] [--seconds S] [--size BYTES]
 *          [--partitions N] [--acks A] [--linger MS] [--batch-size BYTES] [--batch N] [--rate N]
 *          [--threads N] [--idle S] [--library FILE] [-X KEY=VALUE]...
 *
 * Sends N records, or for S seconds if that is over first, each to the partition after the one
 * before. --batch: as many records in one call. --rate: so many records a second, each timed from
 * the call to its delivery report. --idle: afterwards, count for S seconds how often the client's
 * threads wake up with nothing to do. Prints one line of JSON; the exit status is 0 only if every
 * record was reported, once and as delivered.
 */
#ifndef DRIVER_H
#define DRIVER_H
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SETTINGS = 64, MAX_THREADS = 64, MAX_BATCH = 4096 };

/* So many records are sent, and so many delivered, between two readings of the clock. */
enum { CLOCK_EVERY = 1024 };

/* No value comes twice within a batch of this size, so that compressing one is honest work. */
enum { POOL_BYTES = 1280 * 1024 };

typedef struct {
  const char *bootstrap, *topic, *acks, *linger_ms, *batch_size, *library;
  uint64_t records;
  double seconds, rate, idle_seconds;
  size_t size, batch;
  int32_t partitions;
  int threads;
  struct {
    const char *key, *value;
  } settings[MAX_SETTINGS];
  size_t setting_count;
} options_t;

/* One record to send: everything else is the same for all. */
typedef struct {
  const uint8_t *value;
  int32_t partition;
  uint64_t tag;
} outgoing_t;

/* What a driver defines. client_send() and client_send_batch() wait while the client is full; what
 * goes wrong in any of these ends the program by die(). */
static const char *client_name(void);
static const char *client_version(void);
static void client_open(const options_t *options);
static void client_send(const outgoing_t *record);
/* `room` is the calling thread's alone, of client_room() bytes, zeroed at first. */
static size_t client_room(const options_t *options);
static void client_send_batch(const outgoing_t *records, size_t count, void *room);
/* Returns when all that was sent is reported. */
static void client_flush(void);
static void client_close(void);

/* Only what one thread at a time runs may call deliver(): the client's callback. */
static struct {
  uint64_t delivered, failed, tags;
  char first_failure[256];
  uint32_t *latencies_ns; /* only with --rate */
  uint64_t latency_count, latency_room;
  uint64_t last_ns, longest_gap_ns; /* between reports: a stall would show here */
} reports;

static options_t options = {
    .topic = "benchmark", .records = 1000000, .size = 100, .partitions = 1, .threads = 1};

_Noreturn static void die(const char *what, const char *why) {
  fprintf(stderr, "%s: %s: %s\n", client_name(), what, why);
  exit(2);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A report of one record. `now` is read once per call of the client's callback, with --rate. */
static inline void deliver(uint64_t tag, bool delivered, const char *why, uint64_t now) {
  if (!delivered) {
    if (reports.failed++ == 0)
      snprintf(reports.first_failure, sizeof reports.first_failure, "%s", why);
    return;
  }
  reports.tags += tag;
  if (++reports.delivered % CLOCK_EVERY == 0) {
    uint64_t gap = now_ns() - reports.last_ns;
    if (gap > reports.longest_gap_ns) reports.longest_gap_ns = gap;
    reports.last_ns += gap;
  }
  if (reports.latencies_ns && reports.latency_count < reports.latency_room) {
    uint64_t latency = now - tag;
    reports.latencies_ns[reports.latency_count++] =
        latency < UINT32_MAX ? (uint32_t)latency : UINT32_MAX;
  }
}

static inline bool wants_latencies(void) { return reports.latencies_ns != NULL; }

/* ---- Values ---- */

static struct {
  uint8_t *bytes;
  size_t count;
} pool;

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t random_u64(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

/* Text like that of real records: the same names each time, numbers and words that differ. */
static void make_value(char *out, size_t size) {
  static const char *const words[] = {"order", "paid",  "shipped", "north", "south", "invoice",
                                      "blue",  "green", "express", "small", "large", "returned"};
  char text[512];
  size_t at = 0;
  while (at < size) {
    uint64_t a = random_u64(), b = random_u64();
    int length =
        snprintf(text, sizeof text,
                 "{\"id\":\"%016" PRIx64 "\",\"user\":%u,\"kind\":\"%s\",\"note\":\"%s %s\","
                 "\"amount\":%u.%02u}",
                 a, (unsigned)(b % 1000000), words[(b >> 20) % 12], words[(b >> 28) % 12],
                 words[(b >> 36) % 12], (unsigned)((b >> 40) % 10000), (unsigned)(b % 100));
    size_t take = size - at < (size_t)length ? size - at : (size_t)length;
    memcpy(out + at, text, take);
    at += take;
  }
}

static void make_pool(void) {
  pool.count = options.size ? POOL_BYTES / options.size + 1 : 1;
  pool.bytes = malloc(pool.count * options.size + 1);
  if (!pool.bytes) die("values", "no memory");
  for (size_t i = 0; i < pool.count; i++)
    make_value((char *)pool.bytes + i * options.size, options.size);
}

/* ---- Senders ---- */

typedef struct {
  pthread_t thread;
  int number;
  uint64_t sent, tags;
  uint64_t start_ns; /* when its first record is due */
} sender_t;

static bool is_time_over(uint64_t start_ns) {
  return options.seconds > 0 && (double)(now_ns() - start_ns) >= options.seconds * 1e9;
}

static void wait_until(uint64_t due_ns) {
  struct timespec due = {(time_t)(due_ns / 1000000000u), (long)(due_ns % 1000000000u)};
  if (now_ns() < due_ns) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
}

static void *run_sender(void *argument) {
  sender_t *self = argument;
  uint64_t threads = (uint64_t)options.threads, number = (uint64_t)self->number;
  uint64_t count = options.records / threads + (number < options.records % threads);
  size_t at = pool.count / threads * number;
  int32_t partition = (int32_t)((uint64_t)options.partitions * number / threads);
  uint64_t tag = number;
  size_t per_call = options.batch ? options.batch : 1;
  void *room = options.batch ? calloc(1, client_room(&options)) : NULL;
  outgoing_t records[MAX_BATCH];
  /* The kernel may wake us up to 50 us late otherwise. */
  prctl(PR_SET_TIMERSLACK, 1);
  while (self->sent < count) {
    if (self->sent % CLOCK_EVERY < per_call && is_time_over(self->start_ns)) break;
    if (options.rate > 0) {
      double due = (double)(self->sent * threads + number) / options.rate;
      wait_until(self->start_ns + (uint64_t)(due * 1e9));
    }
    size_t left = count - self->sent;
    size_t take = per_call < left ? per_call : left;
    for (size_t i = 0; i < take; i++) {
      records[i].value = pool.bytes + at * options.size;
      records[i].partition = partition;
      records[i].tag = options.rate > 0 ? now_ns() : tag;
      self->tags += records[i].tag;
      tag += threads;
      if (++at == pool.count) at = 0;
      if (++partition == options.partitions) partition = 0;
    }
    if (options.batch) client_send_batch(records, take, room);
    else client_send(records);
    self->sent += take;
  }
  free(room);
  return NULL;
}

/* ---- Results ---- */

static double cpu_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* VmHWM: ru_maxrss would tell the parent's peak if that was higher when it forked. */
static uint64_t peak_rss_bytes(void) {
  FILE *status = fopen("/proc/self/status", "r");
  char line[256];
  uint64_t kilobytes = 0;
  while (status && fgets(line, sizeof line, status))
    if (sscanf(line, "VmHWM: %" SCNu64, &kilobytes) == 1) break;
  if (status) fclose(status);
  return kilobytes * 1024;
}

/* How often all threads but this one have gone to sleep by themselves. */
static uint64_t sleeps(void) {
  DIR *tasks = opendir("/proc/self/task");
  uint64_t total = 0, count;
  struct dirent *task;
  while (tasks && (task = readdir(tasks))) {
    char path[320], line[256];
    if (atoi(task->d_name) == 0 || atoi(task->d_name) == getpid()) continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status))
      if (sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &count) == 1) total += count;
    if (status) fclose(status);
  }
  if (tasks) closedir(tasks);
  return total;
}

static double idle_wakeups_per_second(void) {
  struct timespec settle = {1, 0};
  double whole = (double)(time_t)options.idle_seconds;
  struct timespec idle = {(time_t)whole, (long)((options.idle_seconds - whole) * 1e9)};
  nanosleep(&settle, NULL);
  uint64_t before = sleeps();
  nanosleep(&idle, NULL);
  return (double)(sleeps() - before) / options.idle_seconds;
}

static int compare_latencies(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static double percentile_us(double share) {
  uint64_t count = reports.latency_count;
  if (count == 0) return 0;
  uint64_t rank = (uint64_t)(share * (double)count);
  return reports.latencies_ns[rank < count ? rank : count - 1] / 1e3;
}

static int print_result(uint64_t sent, uint64_t tags, double seconds, double cpu) {
  bool complete = reports.delivered == sent && reports.failed == 0 && reports.tags == tags;
  printf("{\"client\":\"%s\",\"version\":\"%s\",\"sent\":%" PRIu64 ",\"delivered\":%" PRIu64
         ",\"failed\":%" PRIu64 ",\"seconds\":%.6f,\"messages_per_second\":%.0f"
         ",\"cpu_seconds_per_million\":%.4f,\"peak_rss_bytes\":%" PRIu64 ",\"longest_gap_ms\":%.1f",
         client_name(), client_version(), sent, reports.delivered, reports.failed, seconds,
         (double)sent / seconds, cpu * 1e6 / (double)(sent ? sent : 1), peak_rss_bytes(),
         (double)reports.longest_gap_ns / 1e6);
  if (wants_latencies()) {
    qsort(reports.latencies_ns, reports.latency_count, sizeof(uint32_t), compare_latencies);
    printf(",\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f", percentile_us(0.5),
           percentile_us(0.99), percentile_us(0.999));
  }
  if (options.idle_seconds > 0)
    printf(",\"idle_wakeups_per_second\":%.2f", idle_wakeups_per_second());
  puts("}");
  if (!complete)
    fprintf(stderr, "%s: %" PRIu64 " sent, %" PRIu64 " delivered, %" PRIu64 " failed (%s)%s\n",
            client_name(), sent, reports.delivered, reports.failed, reports.first_failure,
            reports.tags == tags ? "" : ", and the tags are not those sent");
  return complete ? 0 : 1;
}

/* ---- Arguments ---- */

static double number(const char *name, const char *text, double lowest, double highest) {
  char *end;
  double value = strtod(text, &end);
  if (*text == 0 || *end != 0 || value < lowest || value > highest) die(name, "out of range");
  return value;
}

static uint64_t whole(const char *name, const char *text, int64_t lowest, int64_t highest) {
  char *end;
  long long value = strtoll(text, &end, 10);
  if (*text == 0 || *end != 0 || value < lowest || value > highest) die(name, "out of range");
  return (uint64_t)value;
}

static void add_setting(char *pair) {
  char *equals = strchr(pair, '=');
  if (!equals) die(pair, "KEY=VALUE is wanted");
  if (options.setting_count == MAX_SETTINGS) die("-X", "too many");
  *equals = 0;
  options.settings[options.setting_count].key = pair;
  options.settings[options.setting_count++].value = equals + 1;
}

static void read_arguments(int argc, char **argv) {
  options_t *o = &options;
  for (int i = 1; i < argc; i += 2) {
    const char *name = argv[i];
    char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (!value) die(name, "a value is missing");
    if (!strcmp(name, "--bootstrap")) o->bootstrap = value;
    else if (!strcmp(name, "--topic")) o->topic = value;
    else if (!strcmp(name, "--acks")) o->acks = value;
    else if (!strcmp(name, "--linger")) o->linger_ms = value;
    else if (!strcmp(name, "--batch-size")) o->batch_size = value;
    else if (!strcmp(name, "--library")) o->library = value;
    else if (!strcmp(name, "--seconds")) o->seconds = number(name, value, 0, 1e6);
    else if (!strcmp(name, "--idle")) o->idle_seconds = number(name, value, 0, 1e6);
    else if (!strcmp(name, "--rate")) o->rate = number(name, value, 0, 1e9);
    else if (!strcmp(name, "--records")) o->records = whole(name, value, 1, INT64_MAX);
    else if (!strcmp(name, "--size")) o->size = whole(name, value, 0, 1 << 20);
    else if (!strcmp(name, "--batch")) o->batch = whole(name, value, 0, MAX_BATCH);
    else if (!strcmp(name, "--partitions")) o->partitions = (int)whole(name, value, 1, 1 << 20);
    else if (!strcmp(name, "--threads")) o->threads = (int)whole(name, value, 1, MAX_THREADS);
    else if (!strcmp(name, "-X")) add_setting(value);
    else die(name, "unknown argument; driver.h lists them");
  }
  if (!options.bootstrap) die("--bootstrap", "is missing");
  if (options.rate > 0 && options.batch) die("--rate", "goes without --batch");
}

int main(int argc, char **argv) {
  read_arguments(argc, argv);
  make_pool();
  client_open(&options);
  /* Connecting and metadata are not what is measured. */
  outgoing_t first = {pool.bytes, 0, 0};
  client_send(&first);
  client_flush();
  if (reports.delivered != 1) die("the first record", reports.first_failure);
  reports.delivered = 0;
  if (options.rate > 0) {
    reports.latency_room = options.records;
    reports.latencies_ns = malloc(reports.latency_room * sizeof(uint32_t));
    if (!reports.latencies_ns) die("latencies", "no memory");
  }

  static sender_t senders[MAX_THREADS];
  double cpu = cpu_seconds();
  uint64_t start = now_ns();
  reports.last_ns = start;
  for (int i = 0; i < options.threads; i++) {
    senders[i].number = i;
    senders[i].start_ns = start;
    if (i > 0 && pthread_create(&senders[i].thread, NULL, run_sender, &senders[i]) != 0)
      die("threads", "cannot start one");
  }
  run_sender(&senders[0]);
  uint64_t sent = 0, tags = 0;
  for (int i = 0; i < options.threads; i++) {
    if (i > 0) pthread_join(senders[i].thread, NULL);
    sent += senders[i].sent;
    tags += senders[i].tags;
  }
  client_flush();
  double seconds = (double)(now_ns() - start) / 1e9;
  cpu = cpu_seconds() - cpu;
  int status = print_result(sent, tags, seconds, cpu);
  client_close();
  return status;
}
#endif
