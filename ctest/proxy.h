/* The fault proxy (tests/support/fault_proxy, whose main.rs has the commands) as a child process,
 * and a mock cluster behind it. */
#pragma once
#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>

typedef struct {
  pid_t pid;
  int owner;     /* the child's stdin: it ends with it */
  FILE *answers; /* the control connection */
  int control;
} proxy_t;

/* Connects to a port of this machine. */
__attribute__((unused)) static int connect_to(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(socket_ >= 0);
  CHECK(connect(socket_, (struct sockaddr *)&address, sizeof address) == 0);
  int on = 1;
  CHECK(setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
  return socket_;
}

__attribute__((unused)) static proxy_t proxy_start(const char *program) {
  int in[2], out[2];
  CHECK(pipe(in) == 0 && pipe(out) == 0);
  proxy_t proxy = {.pid = fork(), .owner = in[1]};
  CHECK(proxy.pid >= 0);
  if (proxy.pid == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    for (int i = 0; i < 2; i++) close(in[i]), close(out[i]);
    execl(program, program, (char *)NULL);
    perror(program);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  FILE *said = fdopen(out[0], "r");
  unsigned port = 0;
  CHECK(said && fscanf(said, "control 127.0.0.1:%u", &port) == 1);
  fclose(said);
  proxy.control = connect_to((uint16_t)port);
  proxy.answers = fdopen(proxy.control, "r");
  CHECK(proxy.answers);
  return proxy;
}

/* Carries out a command; `answer` (of 256 bytes, or NULL) is the line that it gets. */
__attribute__((format(printf, 3, 4), unused)) static void proxy_command(
    const proxy_t *proxy, char *answer, const char *format, ...) {
  char line[256], buffer[256];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  CHECK(length > 0 && length < (int)sizeof line - 1);
  line[length++] = '\n';
  CHECK(write(proxy->control, line, (size_t)length) == length);
  if (!answer) answer = buffer;
  CHECK(fgets(answer, sizeof buffer, proxy->answers));
  if (strncmp(answer, "ok", 2) != 0) FAIL("%.*s: %s", length, line, answer);
}

/* Listens for a backend; gives the port. Routes are numbered from 1. */
__attribute__((unused)) static uint16_t proxy_route(const proxy_t *proxy, const char *backend) {
  char answer[256];
  unsigned number = 0, port = 0;
  proxy_command(proxy, answer, "route %s", backend);
  CHECK(sscanf(answer, "ok %u 127.0.0.1:%u", &number, &port) == 2);
  return (uint16_t)port;
}

/* Puts the proxy before each broker of a cluster (broker n is route n), and gives a config that
 * leads there. */
__attribute__((unused)) static producer_config_t *proxy_config_for(
    const proxy_t *proxy, producer_mock_cluster_t *cluster) {
  char servers[1024], through[1024] = "";
  const char *all = producer_mock_cluster_bootstrap_servers(cluster);
  CHECK(strlen(all) < sizeof servers);
  strcpy(servers, all);
  char *rest = servers;
  int32_t node = 0;
  for (char *one; (one = strtok_r(rest, ",", &rest));) {
    uint16_t port = proxy_route(proxy, one);
    CHECK_STATUS(PRODUCER_OK,
                 producer_mock_cluster_set_advertised(cluster, ++node, "127.0.0.1", port));
    size_t used = strlen(through);
    snprintf(through + used, sizeof through - used, "%s127.0.0.1:%u", used ? "," : "", port);
  }
  producer_config_t *config = producer_config_new();
  CHECK(config);
  set_key(config, "bootstrap.servers", through);
  return config;
}

__attribute__((unused)) static void proxy_stop(proxy_t *proxy) {
  int status = 0;
  close(proxy->owner);
  CHECK(waitpid(proxy->pid, &status, 0) == proxy->pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  fclose(proxy->answers);
}
