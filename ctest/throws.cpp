/* A C++ exception that leaves a function of a table. Declared noexcept, as the header asks, it ends
 * in std::terminate; without that the library ends the process. Nothing unwinds through it. */
#include <kafka_producer.h>
#include <kafka_producer_mock.h>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>

namespace {

void fails(const char *what) { throw std::runtime_error(what); }

enum { TERMINATED = 42, CAME_BACK = 43, NOT_STARTED = 44 };

producer_status_t on_send_noexcept(producer_record_t *, producer_arena_t *, void *) noexcept {
  fails("on_send");
  return PRODUCER_OK;
}

producer_status_t on_send(producer_record_t *, producer_arena_t *, void *) {
  fails("on_send");
  return PRODUCER_OK;
}

producer_status_t serialize_noexcept(producer_slice_t, producer_slice_t, producer_slice_t *,
                                     producer_arena_t *, void *) noexcept {
  fails("serialize");
  return PRODUCER_OK;
}

producer_status_t serialize(producer_slice_t, producer_slice_t, producer_slice_t *,
                            producer_arena_t *, void *) {
  fails("serialize");
  return PRODUCER_OK;
}

void on_acknowledgement(const producer_delivery_t *, void *) {
  fails("on_acknowledgement");
}

/* In a child: sends a record with these; what happens then is the child's end. */
void send_with(const producer_interceptor_t *interceptor, const producer_serializer_t *serializer) {
  std::set_terminate([] { _exit(TERMINATED); });
  if (!std::freopen("/dev/null", "w", stderr)) _exit(NOT_STARTED);
  producer_mock_cluster_t *cluster = nullptr;
  producer_t *producer = nullptr;
  producer_config_t *config = producer_config_new();
  if (producer_mock_cluster_new(1, &cluster, nullptr) ||
      producer_config_set(config, "bootstrap.servers",
                          producer_mock_cluster_bootstrap_servers(cluster), nullptr) ||
      (interceptor && producer_config_add_interceptor(config, interceptor)) ||
      (serializer && producer_config_set_value_serializer(config, serializer)) ||
      producer_new(config, &producer, nullptr))
    _exit(NOT_STARTED);
  producer_record_t record = {};
  record.topic = producer_str("t");
  try {
    producer_send(producer, &record, nullptr);
    producer_flush(producer, 30000, nullptr);
  } catch (...) {
  }
  _exit(CAME_BACK);
}

int failures = 0;

void check(const char *what, bool is_noexcept, const producer_interceptor_t *interceptor,
           const producer_serializer_t *serializer) {
  const pid_t child = fork();
  if (child == 0) send_with(interceptor, serializer);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) std::abort();
  const bool terminated = WIFEXITED(status) && WEXITSTATUS(status) == TERMINATED;
  const bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  if (is_noexcept ? terminated : terminated || aborted) return;
  std::printf("%s: the process ended with %#x\n", what, status);
  failures++;
}

}  // namespace

int main() {
  producer_interceptor_t interceptor = {};
  interceptor.struct_size = sizeof interceptor;
  producer_serializer_t serializer = {};
  serializer.struct_size = sizeof serializer;
  interceptor.on_send = on_send_noexcept;
  check("on_send, noexcept", true, &interceptor, nullptr);
  interceptor.on_send = on_send;
  check("on_send", false, &interceptor, nullptr);
  interceptor.on_send = nullptr;
  interceptor.on_acknowledgement = on_acknowledgement;
  check("on_acknowledgement", false, &interceptor, nullptr);
  serializer.serialize = serialize_noexcept;
  check("serialize, noexcept", true, nullptr, &serializer);
  serializer.serialize = serialize;
  check("serialize", false, nullptr, &serializer);
  return failures != 0;
}
