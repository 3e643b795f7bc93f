/*
 * tenant_partitioner: a partitioner of its own. Records have keys like "acme/order-17"; the one
 * large tenant has the last two partitions to itself, so that it is in nobody's way, and the others
 * share the rest, each always in the same one.
 *
 * Usage: tenant_partitioner [HOST:PORT], of a Kafka broker; without, a cluster inside this process.
 * Prints how many records each partition got, and fails if one is where it does not belong.
 */
#include <inttypes.h>
#include <kafka_producer.h>
#include <kafka_producer_mock.h>
#include <stdio.h>
#include <string.h>

#define TOPIC "tenants"
#define LARGE "acme"
enum { PARTITIONS = 8, RESERVED = 2, TENANTS = 20, ORDERS = 500 };

/* What the partitioner works with. Several threads may be in it at once, so that it only reads. */
typedef struct {
  const char *large_tenant;
  size_t reserved;
} plan_t;

/* FNV-1a. Whatever it is, it must not change: a key's records are where it has put them. */
static uint32_t hash(const uint8_t *bytes, size_t len) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < len; i++) hash = (hash ^ bytes[i]) * 16777619u;
  return hash;
}

static int32_t choose(const producer_record_t *record,
                      const producer_partition_info_t *partitions, size_t count,
                      void *user_data) {
  const plan_t *plan = user_data;
  (void)partitions; /* leaders do not matter here: a tenant stays where it is */
  const uint8_t *slash =
      record->key.data ? memchr(record->key.data, '/', record->key.len) : NULL;
  if (!slash) return -1; /* a record without a tenant is refused: PRODUCER_ERR_PARTITIONING */
  size_t tenant_len = (size_t)(slash - record->key.data);
  size_t reserved = count > plan->reserved ? plan->reserved : 0;
  size_t shared = count - reserved;
  bool large = tenant_len == strlen(plan->large_tenant) &&
               memcmp(record->key.data, plan->large_tenant, tenant_len) == 0;
  if (large && reserved > 0) {
    /* Its orders are spread by the whole key. */
    return (int32_t)(shared + hash(record->key.data, record->key.len) % reserved);
  }
  return (int32_t)(hash(record->key.data, tenant_len) % shared);
}

/* What was delivered. The callback thread writes it, until the producer is closed. */
typedef struct {
  uint64_t records[PARTITIONS];
  int32_t partition_of[TENANTS]; /* where a tenant's records are, -1: nothing came yet */
  uint64_t misplaced, failed;
} results_t;

/* A record's tag is its tenant's number; 0 is the large one. */
static void on_deliveries(const producer_delivery_t *delivery, size_t count, void *user_data) {
  results_t *results = user_data;
  for (size_t i = 0; i < count; i++, delivery++) {
    if (delivery->status != PRODUCER_OK) {
      fprintf(stderr, "not delivered: %s\n", delivery->failure->message);
      results->failed += delivery->count;
      continue;
    }
    int32_t partition = delivery->partition;
    for (uint32_t k = 0; k < delivery->count; k++) {
      uint64_t tenant = delivery->tags[k];
      int32_t *known = &results->partition_of[tenant];
      bool reserved = partition >= PARTITIONS - RESERVED;
      bool moved = tenant != 0 && *known >= 0 && *known != partition;
      if (reserved != (tenant == 0) || moved) results->misplaced++;
      *known = partition;
    }
    results->records[partition] += delivery->count;
  }
}

static bool send_orders(producer_t *producer, producer_error_t *error) {
  for (int order = 0; order < ORDERS; order++) {
    for (uint64_t tenant = 0; tenant < TENANTS; tenant++) {
      char key[64];
      if (tenant == 0) snprintf(key, sizeof key, LARGE "/order-%d", order);
      else snprintf(key, sizeof key, "tenant-%" PRIu64 "/order-%d", tenant, order);
      producer_record_t record = { .topic = producer_str(TOPIC), .key = producer_str(key),
                                   .value = producer_str("{}"), .tag = tenant };
      if (producer_send(producer, &record, error) != PRODUCER_OK) return false;
    }
  }
  /* What has no tenant is refused on the spot, and nothing else happens. */
  producer_record_t nobodys = { .topic = producer_str(TOPIC), .value = producer_str("{}") };
  if (producer_send(producer, &nobodys, error) != PRODUCER_ERR_PARTITIONING) return false;
  printf("refused: %s\n", error->message);
  return true;
}

int main(int argc, char **argv) {
  producer_error_t error = { 0 };
  producer_mock_cluster_t *cluster = NULL;
  const char *servers = argc > 1 ? argv[1] : NULL;
  if (!servers) {
    if (producer_mock_cluster_new(3, &cluster, &error) ||
        producer_mock_cluster_create_topic(cluster, producer_str(TOPIC), PARTITIONS)) {
      fprintf(stderr, "%s\n", error.message);
      return 1;
    }
    servers = producer_mock_cluster_bootstrap_servers(cluster);
  }

  plan_t plan = { .large_tenant = LARGE, .reserved = RESERVED };
  const producer_partitioner_t partitioner = {
    .struct_size = sizeof partitioner, .user_data = &plan, .partition = choose,
  };
  results_t results = { 0 };
  for (int tenant = 0; tenant < TENANTS; tenant++) results.partition_of[tenant] = -1;
  producer_t *producer = NULL;
  producer_config_t *config = producer_config_new();
  bool sent = !producer_config_set(config, "bootstrap.servers", servers, &error) &&
              !producer_config_set_partitioner(config, &partitioner) &&
              !producer_config_set_delivery_callback(config, on_deliveries, &results) &&
              !producer_new(config, &producer, &error) && send_orders(producer, &error) &&
              !producer_close(producer, PRODUCER_TIMEOUT_DEFAULT, NULL, &error);
  if (!sent) fprintf(stderr, "%s\n", error.message);
  producer_free(producer);
  producer_config_free(config);
  producer_mock_cluster_free(cluster);

  uint64_t delivered = 0;
  for (int partition = 0; partition < PARTITIONS; partition++) {
    printf("partition %d: %" PRIu64 " records\n", partition, results.records[partition]);
    delivered += results.records[partition];
  }
  if (results.misplaced) fprintf(stderr, "%" PRIu64 " are misplaced\n", results.misplaced);
  return !sent || results.misplaced || results.failed || delivered != TENANTS * ORDERS;
}
