/* Peers that are not Kafka, or not in their right mind: each gives an error that says what the peer
 * looks like, within max.block.ms, and nothing that a peer sends makes the process grow or end. */
#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* What a server does with one request on a connection: false ends the connection. */
typedef bool (*answer_fn)(int fd, const uint8_t *request, size_t len);

typedef struct {
  answer_fn answer;
  int listener;
  uint16_t port;
  atomic_int stop, connections;
  pthread_t thread;
} server_t;

static bool read_all(int fd, uint8_t *to, size_t len) {
  while (len > 0) {
    ssize_t got = recv(fd, to, len, 0);
    if (got <= 0) return false;
    to += got;
    len -= (size_t)got;
  }
  return true;
}

static void put(int fd, const void *data, size_t len) {
  if (send(fd, data, len, MSG_NOSIGNAL) != (ssize_t)len) return;
}

static void serve_one(server_t *server, int fd) {
  static uint8_t request[65536];
  struct timeval timeout = {5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  if (!server->answer) return; /* closes at once */
  while (!atomic_load(&server->stop)) {
    uint8_t head[4];
    if (!read_all(fd, head, 4)) return;
    size_t len = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    if (len > sizeof request || !read_all(fd, request, len)) return;
    if (!server->answer(fd, request, len)) return;
  }
}

static void *serve(void *argument) {
  server_t *server = argument;
  for (;;) {
    int fd = accept(server->listener, NULL, NULL);
    if (fd < 0 || atomic_load(&server->stop)) {
      if (fd >= 0) close(fd);
      return NULL;
    }
    atomic_fetch_add(&server->connections, 1);
    serve_one(server, fd);
    close(fd);
  }
}

/* A socket with a port that is nobody else's; who connects is refused until it listens. */
static int bind_somewhere(uint16_t *port) {
  int bound = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t len = sizeof address;
  CHECK_EQ(0, bind(bound, (struct sockaddr *)&address, len));
  CHECK_EQ(0, getsockname(bound, (struct sockaddr *)&address, &len));
  *port = ntohs(address.sin_port);
  return bound;
}

static void server_start(server_t *server, answer_fn answer) {
  memset(server, 0, sizeof *server);
  server->answer = answer;
  server->listener = bind_somewhere(&server->port);
  CHECK_EQ(0, listen(server->listener, 16));
  CHECK_EQ(0, pthread_create(&server->thread, NULL, serve, server));
}

static void server_stop(server_t *server) {
  atomic_store(&server->stop, 1);
  shutdown(server->listener, SHUT_RDWR);
  CHECK_EQ(0, pthread_join(server->thread, NULL));
  close(server->listener);
}

/* A response frame: its length, the request's correlation id, then a body. */
static void respond(int fd, const uint8_t *request, const void *body, size_t len) {
  uint8_t frame[1024];
  CHECK(len + 8 <= sizeof frame);
  uint32_t size = (uint32_t)(len + 4);
  uint8_t head[4] = {(uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8),
                     (uint8_t)size};
  memcpy(frame, head, 4);
  memcpy(frame + 4, request + 4, 4);
  memcpy(frame + 8, body, len);
  put(fd, frame, len + 8);
}

static int api_key(const uint8_t *request) { return request[0] << 8 | request[1]; }

/* A sane answer to ApiVersions: of version 0 with error 35 at first, which names Produce 3 to 7,
 * Metadata 4, ApiVersions 0. True if the request was one. */
static bool api_versions(int fd, const uint8_t *request) {
  static const uint8_t unsupported[] = {0, 35, 0, 0, 0, 3, 0, 0, 0, 3, 0, 7, 0,
                                        3, 0, 4, 0, 4, 0, 18, 0, 0, 0, 0};
  static const uint8_t fine[] = {0, 0, 0, 0, 0, 3, 0, 0, 0, 3, 0, 7, 0, 3, 0, 4, 0, 4, 0, 18, 0, 0,
                                 0, 0};
  if (api_key(request) != 18) return false;
  if (request[2] == 0 && request[3] == 0) {
    respond(fd, request, fine, sizeof fine);
  } else {
    respond(fd, request, unsupported, sizeof unsupported);
  }
  return true;
}

static bool http(int fd, const uint8_t *request, size_t len) {
  static const char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
  (void)request, (void)len;
  put(fd, text, sizeof text - 1);
  return false;
}

static bool tls(int fd, const uint8_t *request, size_t len) {
  static const uint8_t alert[] = {0x15, 3, 3, 0, 2, 2, 10}; /* fatal, unexpected message */
  (void)request, (void)len;
  put(fd, alert, sizeof alert);
  return false;
}

static bool oversized(int fd, const uint8_t *request, size_t len) {
  static const uint8_t bytes[] = {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0};
  (void)request, (void)len;
  put(fd, bytes, sizeof bytes);
  return true;
}

static bool negative(int fd, const uint8_t *request, size_t len) {
  static const uint8_t bytes[] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0};
  (void)request, (void)len;
  put(fd, bytes, sizeof bytes);
  return true;
}

static bool empty_frame(int fd, const uint8_t *request, size_t len) {
  static const uint8_t bytes[] = {0, 0, 0, 0};
  (void)request, (void)len;
  put(fd, bytes, sizeof bytes);
  return true;
}

static bool cut_frame(int fd, const uint8_t *request, size_t len) {
  uint8_t bytes[] = {0, 0, 1, 0, request[4], request[5], request[6], request[7], 0, 0};
  (void)len;
  put(fd, bytes, sizeof bytes);
  return false;
}

static bool wrong_correlation_id(int fd, const uint8_t *request, size_t len) {
  static const uint8_t body[] = {0, 0, 0, 0, 0, 0};
  uint8_t copy[8];
  (void)len;
  memcpy(copy, request, sizeof copy);
  copy[7] ^= 0x55;
  respond(fd, copy, body, sizeof body);
  return true;
}

static bool api_versions_counts(int fd, const uint8_t *request, size_t len) {
  static const uint8_t body[] = {0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0};
  (void)len;
  respond(fd, request, body, sizeof body);
  return true;
}

static bool metadata_counts(int fd, const uint8_t *request, size_t len) {
  static const uint8_t body[] = {0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1};
  (void)len;
  if (!api_versions(fd, request)) respond(fd, request, body, sizeof body);
  return true;
}

static bool metadata_cut(int fd, const uint8_t *request, size_t len) {
  static const uint8_t body[] = {0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 9, '1', '2'};
  (void)len;
  if (!api_versions(fd, request)) respond(fd, request, body, sizeof body);
  return true;
}

/* Only after a sane beginning: what is no Kafka at all is told by its first bytes. */
static bool metadata_oversized(int fd, const uint8_t *request, size_t len) {
  return api_versions(fd, request) || oversized(fd, request, len);
}

static bool metadata_of_another(int fd, const uint8_t *request, size_t len) {
  return api_versions(fd, request) || wrong_correlation_id(fd, request, len);
}

/* A broker list that leads nowhere, no topics: an empty cluster. */
static bool metadata_empty(int fd, const uint8_t *request, size_t len) {
  static const uint8_t body[] = {0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
                                 0, 0};
  (void)len;
  if (!api_versions(fd, request)) respond(fd, request, body, sizeof body);
  return true;
}

static bool no_common_version(int fd, const uint8_t *request, size_t len) {
  static const uint8_t body[] = {0, 0, 0, 0, 0, 3, 0, 0, 0, 90, 0, 99, 0, 3, 0, 90,
                                 0, 99, 0, 18, 0, 0, 0, 0};
  (void)len;
  if (request[3] != 0) return api_versions(fd, request);
  respond(fd, request, body, sizeof body);
  return true;
}

static bool silence(int fd, const uint8_t *request, size_t len) {
  (void)fd, (void)request, (void)len;
  return true;
}

static bool noise(int fd, const uint8_t *request, size_t len) {
  uint8_t bytes[512];
  (void)request, (void)len;
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)rand();
  put(fd, bytes, sizeof bytes);
  return true;
}

typedef struct {
  pthread_mutex_t lock;
  char text[65536];
  size_t len;
} log_t;

static void keep_line(producer_log_level_t level, const char *target, const char *message,
                      void *user_data) {
  log_t *log = user_data;
  (void)level;
  pthread_mutex_lock(&log->lock);
  int len = snprintf(log->text + log->len, sizeof log->text - log->len, "%s: %s\n", target,
                     message);
  if (len > 0 && log->len + (size_t)len < sizeof log->text) log->len += (size_t)len;
  pthread_mutex_unlock(&log->lock);
}

/* One send to `servers`: it must fail in time, say `word`, and leave something on the log. Where
 * this machine is so busy that the peer has not shown itself by then, the next one must. */
static void try_servers(const char *name, const char *servers, const char *word) {
  static log_t log;
  producer_error_t error;
  memset(&log, 0, sizeof log);
  pthread_mutex_init(&log.lock, NULL);
  producer_config_t *config = producer_config_new();
  set_key(config, "bootstrap.servers", servers);
  set_key(config, "max.block.ms", "800");
  set_key(config, "request.timeout.ms", "300");
  set_key(config, "socket.connection.setup.timeout.ms", "300");
  set_key(config, "reconnect.backoff.ms", "20");
  set_key(config, "reconnect.backoff.max.ms", "50");
  CHECK_STATUS(PRODUCER_OK,
               producer_config_set_log_callback(config, PRODUCER_LOG_DEBUG, keep_line, &log));
  producer_t *producer = start(config);
  producer_record_t record = {.topic = producer_str("hostile")};
  const int64_t end = now_ms() + LONG_MS / 4;
  do {
    int64_t begin = now_ms();
    CHECK_FAILS(PRODUCER_ERR_TIMED_OUT, producer_send(producer, &record, &error));
    int64_t took = now_ms() - begin;
    if (took < 750 || took > LONG_MS) FAIL("%s: it took %lld ms", name, (long long)took);
    CHECK(error.flags & PRODUCER_RETRIABLE);
  } while (!strstr(error.message, word) && now_ms() < end);
  if (!strstr(error.message, word))
    FAIL("%s: \"%s\" does not say \"%s\"; the log:\n%s", name, error.message, word, log.text);
  producer_record_t again = {.topic = producer_str("hostile")};
  CHECK_FAILS(PRODUCER_ERR_METADATA_PENDING, producer_try_send(producer, &again, &error));
  CHECK_COUNTERS(producer, 0, 0);
  CHECK_OK(producer_close(producer, LONG_MS, NULL, &error));
  producer_free(producer);
  if (log.len == 0) FAIL("%s: the log is empty", name);
  pthread_mutex_destroy(&log.lock);
}

int main(void) {
  static const struct {
    const char *name;
    answer_fn answer;
    const char *word;
  } peers[] = {
      /* A reset where our request had come: which of the two is a matter of time. */
      {"closes at once", NULL, "before it answered ApiVersions"},
      {"HTTP", http, "HTTP"},
      {"TLS", tls, "TLS"},
      {"oversized", oversized, "not look like Kafka"},
      {"negative length", negative, "not look like Kafka"},
      {"empty frame", empty_frame, "127.0.0.1"},
      {"cut frame", cut_frame, "closed"},
      {"wrong correlation id", wrong_correlation_id, "correlation"},
      {"ApiVersions with hostile counts", api_versions_counts, "ApiVersions"},
      {"Metadata with hostile counts", metadata_counts, "Metadata"},
      {"Metadata cut short", metadata_cut, "Metadata"},
      {"Metadata oversized", metadata_oversized, "2147483647"},
      {"Metadata of another request", metadata_of_another, "correlation"},
      {"no brokers", metadata_empty, "names no brokers"},
      {"no common version", no_common_version, "version"},
      {"silence", silence, "ms"},
      {"noise", noise, "127.0.0.1"},
  };
  for (size_t i = 0; i < sizeof peers / sizeof *peers; i++) {
    server_t server;
    server_start(&server, peers[i].answer);
    char servers[32];
    snprintf(servers, sizeof servers, "127.0.0.1:%u", server.port);
    try_servers(peers[i].name, servers, peers[i].word);
    CHECK(server.connections > 0);
    server_stop(&server);
  }
  /* A port where nobody listens, and a name that nobody has. */
  server_t server;
  char servers[64];
  int bound = bind_somewhere(&server.port);
  snprintf(servers, sizeof servers, "127.0.0.1:%u", server.port);
  try_servers("nobody", servers, "refused");
  close(bound);
  try_servers("no such host", "no-such-host.invalid:9092", "no-such-host.invalid");

  /* A good server beside bad ones is found. */
  producer_error_t error;
  producer_mock_cluster_t *cluster = new_cluster(1);
  server_start(&server, http);
  snprintf(servers, sizeof servers, "127.0.0.1:%u,%s", server.port,
           producer_mock_cluster_bootstrap_servers(cluster));
  producer_config_t *config = producer_config_new();
  set_key(config, "bootstrap.servers", servers);
  producer_t *producer = start(config);
  producer_record_t record = {.topic = producer_str("found")};
  producer_receipt_t receipt;
  CHECK_OK(producer_send_sync(producer, &record, 30000, &receipt, &error));
  producer_free(producer);
  server_stop(&server);
  producer_mock_cluster_free(cluster);

  struct rusage usage;
  CHECK_EQ(0, getrusage(RUSAGE_SELF, &usage));
  CHECK(usage.ru_maxrss < 500 * 1024);
  return 0;
}
