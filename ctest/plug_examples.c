/* The examples interceptors and serializers on the mock cluster: what is in the topics afterwards,
 * byte for byte. The arguments are the programs. */
#include "support.h"

#include <ctype.h>

static char output[4096];

/* Runs a program to its end; its exit status is 0. */
static void run(const char *command) {
  FILE *pipe = popen(command, "r");
  CHECK(pipe != NULL);
  output[fread(output, 1, sizeof output - 1, pipe)] = '\0';
  int status = pclose(pipe);
  if (status != 0) FAIL("%s: status %d, \"%s\"", command, status, output);
}

static void read_at(producer_mock_cluster_t *cluster, const char *topic, int64_t offset,
                    producer_record_t *record) {
  if (!producer_mock_cluster_read(cluster, producer_str(topic), 0, offset, record))
    FAIL("%s has no offset %d", topic, (int)offset);
}

/* ---- interceptors ---- */

/* 00-, 32 digits, -, 16 digits, -, and whether it is sampled; no id is all zeros. */
static void check_traceparent(producer_slice_t value, const char *sampled) {
  const char *text = (const char *)value.data;
  CHECK_EQ(55, value.len);
  CHECK(strncmp(text, "00-", 3) == 0 && text[35] == '-' && text[52] == '-');
  CHECK(strncmp(text + 53, sampled, 2) == 0);
  for (int i = 3; i < 52; i++)
    CHECK(i == 35 || isdigit(text[i]) || (text[i] >= 'a' && text[i] <= 'f'));
  CHECK(strspn(text + 3, "0") < 32 && strspn(text + 36, "0") < 16);
}

static void interceptors(producer_mock_cluster_t *cluster, const char *program) {
  char command[512];
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("a"), 1));
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("b"), 1));
  snprintf(command, sizeof command, "'%s' a b", program);
  run(command);
  CHECK_TEXT("topic                    sent acknowledged   failed  refused\n"
             "a                          10           10        0        0\n"
             "b                          10           10        0        0\n", output);
  char seen[20][56] = {{0}};
  for (int at = 0; at < 20; at++) {
    producer_record_t record;
    read_at(cluster, at < 10 ? "a" : "b", at % 10, &record);
    CHECK_EQ(1, record.header_count);
    CHECK(same_bytes(producer_str("traceparent"), record.headers[0].key));
    check_traceparent(record.headers[0].value, "01");
    memcpy(seen[at], record.headers[0].value.data, 35);
    for (int other = 0; other < at; other++) CHECK(strcmp(seen[at], seen[other]) != 0);
  }
  /* Refused, and told: the topic's name is none. */
  snprintf(command, sizeof command, "TRACEPARENT_SAMPLED=false '%s' a 'b c' 2>/dev/null", program);
  run(command);
  CHECK_TEXT("topic                    sent acknowledged   failed  refused\n"
             "a                          10           10        0        0\n"
             "b c                        10            0        0       10\n", output);
  producer_record_t record;
  read_at(cluster, "a", 19, &record);
  check_traceparent(record.headers[0].value, "00");
  snprintf(command, sizeof command, "TRACEPARENT_SAMPLED=perhaps '%s' a 2>&1", program);
  FILE *pipe = popen(command, "r");
  CHECK(pipe && fgets(output, sizeof output, pipe));
  CHECK(strstr(output, "interceptor 1 of 2: configure failed"));
  CHECK(pclose(pipe) != 0);
}

/* ---- serializers ---- */

/* What Google's and Apache's own libraries make of the two orders. */
static const char *const protobuf[] = {
    "08960112034164611a0e0a0a676cc3bc686269726e6510031a120a056361626c6510ffffffffffffffffff011a0410"
    "e0a7122100000000000029402801",
    "08ffffffffffffffffff01"};
static const char *const thrift[] = {
    "16ac021803416461193c180a676cc3bc686269726e6515060018056361626c65150100180015c0cf24001700000000"
    "000029401100",
    "16011800190c1700000000000000001200"};
static const char *const keys[] = {"0000000000000096", "ffffffffffffffff"};

static void check_hex(const char *expected, producer_slice_t bytes) {
  char hex[512] = "";
  for (size_t i = 0; i < bytes.len && i < 255; i++) sprintf(hex + 2 * i, "%02x", bytes.data[i]);
  CHECK_TEXT(expected, hex);
}

static void serializers(producer_mock_cluster_t *cluster, const char *program) {
  char command[512];
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("p"), 1));
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("h"), 1));
  snprintf(command, sizeof command, "'%s' p h", program);
  run(command);
  CHECK(strstr(output, "p: order 150 is at offset 0 of partition 0\n"));
  CHECK(strstr(output, "h: order -1 is at offset 1 of partition 0\n"));
  for (int at = 0; at < 2; at++) {
    producer_record_t record;
    read_at(cluster, "p", at, &record);
    check_hex(keys[at], record.key);
    check_hex(protobuf[at], record.value);
    read_at(cluster, "h", at, &record);
    check_hex(keys[at], record.key);
    check_hex(thrift[at], record.value);
  }
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  producer_mock_cluster_t *cluster = new_cluster(1);
  setenv("KAFKA_BOOTSTRAP", producer_mock_cluster_bootstrap_servers(cluster), 1);
  interceptors(cluster, argv[1]);
  serializers(cluster, argv[2]);
  producer_mock_cluster_free(cluster);
  return 0;
}
