/* The shared library loaded, used and unloaded again and again, with producers and threads that
 * outlive dlclose(): it stays mapped. The path is the argument; the program links nothing of it. */
#include <kafka_producer.h>
#include <kafka_producer_mock.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 30
#define THREADS 3

#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      exit(1); \
    } \
  } while (0)

static struct {
  void *library;
  producer_config_t *(*config_new)(void);
  void (*config_free)(producer_config_t *);
  producer_status_t (*config_set)(producer_config_t *, const char *, const char *,
                                  producer_error_t *);
  producer_status_t (*set_callback)(producer_config_t *, producer_delivery_fn, void *);
  producer_status_t (*create)(const producer_config_t *, producer_t **, producer_error_t *);
  producer_status_t (*send)(producer_t *, const producer_record_t *, producer_error_t *);
  producer_status_t (*flush)(producer_t *, int32_t, producer_error_t *);
  void (*destroy)(producer_t *);
  producer_status_t (*cluster_new)(int32_t, producer_mock_cluster_t **, producer_error_t *);
  const char *(*servers)(const producer_mock_cluster_t *);
  void (*cluster_free)(producer_mock_cluster_t *);
} api;

static void load(const char *path) {
  api.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!api.library) {
    fprintf(stderr, "%s\n", dlerror());
    exit(1);
  }
#define SYMBOL(field, name) \
  do { \
    void *symbol = dlsym(api.library, name); \
    CHECK(symbol); \
    memcpy(&api.field, &symbol, sizeof symbol); \
  } while (0)
  SYMBOL(config_new, "producer_config_new");
  SYMBOL(config_free, "producer_config_free");
  SYMBOL(config_set, "producer_config_set");
  SYMBOL(set_callback, "producer_config_set_delivery_callback");
  SYMBOL(create, "producer_new");
  SYMBOL(send, "producer_send");
  SYMBOL(flush, "producer_flush");
  SYMBOL(destroy, "producer_free");
  SYMBOL(cluster_new, "producer_mock_cluster_new");
  SYMBOL(servers, "producer_mock_cluster_bootstrap_servers");
  SYMBOL(cluster_free, "producer_mock_cluster_free");
}

static producer_mock_cluster_t *cluster;
static pthread_barrier_t loaded, unloaded;

static void count(const producer_delivery_t *deliveries, size_t n, void *user_data) {
  for (size_t i = 0; i < n; i++)
    __atomic_fetch_add((int *)user_data, (int)deliveries[i].count, __ATOMIC_SEQ_CST);
}

/* Sends before and after the library is unloaded, and ends after that: its thread-locals too. */
static void *use(void *argument) {
  producer_error_t error;
  producer_t *producer = NULL;
  int reported = 0;
  (void)argument;
  pthread_barrier_wait(&loaded);
  producer_config_t *config = api.config_new();
  CHECK(config);
  CHECK(api.config_set(config, "bootstrap.servers", api.servers(cluster), &error) == 0);
  CHECK(api.set_callback(config, count, &reported) == 0);
  CHECK(api.create(config, &producer, &error) == 0);
  api.config_free(config);
  for (int i = 0; i < 200; i++) {
    if (i == 100) {
      pthread_barrier_wait(&unloaded);
      pthread_barrier_wait(&unloaded);
    }
    producer_record_t record = {.topic = producer_str("unload"), .value = producer_str("value")};
    CHECK(api.send(producer, &record, &error) == 0);
  }
  CHECK(api.flush(producer, 30000, &error) == 0);
  CHECK(reported == 200);
  api.destroy(producer);
  return NULL;
}

int main(int argc, char **argv) {
  producer_error_t error;
  CHECK(argc == 2);
  pthread_barrier_init(&loaded, NULL, THREADS + 1);
  pthread_barrier_init(&unloaded, NULL, THREADS + 1);
  for (int round = 0; round < ROUNDS; round++) {
    load(argv[1]);
    if (!cluster) CHECK(api.cluster_new(1, &cluster, &error) == 0);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, use, NULL) == 0);
    pthread_barrier_wait(&loaded);
    pthread_barrier_wait(&unloaded);
    CHECK(dlclose(api.library) == 0);
    pthread_barrier_wait(&unloaded);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  }
  api.cluster_free(cluster);
  CHECK(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) != NULL); /* still there */
  return 0;
}
