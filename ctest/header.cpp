// The headers in C++: handles in unique_ptr, a lambda's captures behind user_data.
#include <kafka_producer.h>
#include <kafka_producer_mock.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace {

struct deleter {
  void operator()(producer_config_t *config) const noexcept { producer_config_free(config); }
  void operator()(producer_t *producer) const noexcept { producer_free(producer); }
  void operator()(producer_mock_cluster_t *c) const noexcept { producer_mock_cluster_free(c); }
};

using config_ptr = std::unique_ptr<producer_config_t, deleter>;
using producer_ptr = std::unique_ptr<producer_t, deleter>;
using cluster_ptr = std::unique_ptr<producer_mock_cluster_t, deleter>;

static_assert(std::is_trivially_copyable<producer_record_t>::value, "a plain struct");
static_assert(sizeof(producer_status_t) == sizeof(int32_t), "the enum is an int32_t");
static_assert(noexcept(deleter{}(static_cast<producer_t *>(nullptr))), "frees do not throw");

void check(producer_status_t status, const producer_error_t &error) {
  if (status != PRODUCER_OK) throw std::runtime_error(error.message);
}

template <class F>
struct holder {
  F f;
  // noexcept: nothing unwinds through the library.
  static void call(const producer_delivery_t *deliveries, size_t count, void *self) noexcept {
    static_cast<holder *>(self)->f(deliveries, count);
  }
};

template <class F>
holder<F> hold(F f) {
  return holder<F>{std::move(f)};
}

void run() {
  producer_error_t error{};
  producer_mock_cluster_t *raw_cluster = nullptr;
  check(producer_mock_cluster_new(1, &raw_cluster, &error), error);
  cluster_ptr cluster(raw_cluster);

  config_ptr config(producer_config_new());
  const char *servers = producer_mock_cluster_bootstrap_servers(cluster.get());
  check(producer_config_set(config.get(), "bootstrap.servers", servers, &error), error);

  // Declared before the producer, so that it dies after it.
  std::atomic<uint64_t> sum{0};
  auto callback = hold([&sum](const producer_delivery_t *deliveries, size_t count) {
    for (size_t i = 0; i < count; i++)
      for (uint32_t j = 0; j < deliveries[i].count; j++)
        if (deliveries[i].status == PRODUCER_OK) sum += deliveries[i].tags[j];
  });
  check(producer_config_set_delivery_callback(config.get(), callback.call, &callback), error);

  producer_t *raw_producer = nullptr;
  check(producer_new(config.get(), &raw_producer, &error), error);
  producer_ptr producer(raw_producer);

  for (uint64_t i = 1; i <= 100; i++) {
    const std::string value = "value " + std::to_string(i);
    producer_record_t record{};
    record.topic = producer_str("cpp");
    record.value = {reinterpret_cast<const uint8_t *>(value.data()), value.size()};
    record.tag = i;
    check(producer_send(producer.get(), &record, &error), error);
  }
  check(producer_flush(producer.get(), 30000, &error), error);
  if (sum != 5050) throw std::runtime_error("not every record came back");

  producer_record_t bad{};
  if (producer_send(producer.get(), &bad, &error) != PRODUCER_ERR_INVALID_ARGUMENT)
    throw std::runtime_error("a record without a topic was taken");
}

}  // namespace

int main() {
  try {
    run();
  } catch (const std::exception &exception) {
    std::fprintf(stderr, "%s\n", exception.what());
    return 1;
  }
  return 0;
}
