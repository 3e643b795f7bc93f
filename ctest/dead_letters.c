/* The example dead_letters on the mock cluster: what fails is kept in a file, and the next run
 * sends it, as it was. The argument is the program. */
#include "support.h"

#include <sys/wait.h>

static const char *program;
static char file[64], aside[96];

/* Runs `input | dead_letters FILE ARGUMENTS`; its exit status, and what it printed. */
static int run(const char *input, const char *arguments, char *output, size_t size) {
  char command[1024];
  snprintf(command, sizeof command, "printf '%s' | '%s' '%s' %s", input, program, file, arguments);
  FILE *pipe = popen(command, "r");
  CHECK(pipe != NULL);
  size_t len = fread(output, 1, size - 1, pipe);
  output[len] = '\0';
  int status = pclose(pipe);
  CHECK(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void check_run(int status, const char *begins, const char *input, const char *arguments) {
  char output[512];
  int got = run(input, arguments, output, sizeof output);
  if (got != status || strncmp(output, begins, strlen(begins)) != 0) {
    FAIL("exit status %d, \"%s\"; expected %d, \"%s...\"", got, output, status, begins);
  }
  CHECK_EQ(status != 0, access(file, F_OK) == 0);
  CHECK(access(aside, F_OK) != 0);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  program = argv[1];
  snprintf(file, sizeof file, "/tmp/dead_letters.%ld", (long)getpid());
  snprintf(aside, sizeof aside, "%s.sending", file);
  producer_error_t error;
  producer_mock_cluster_t *cluster;
  CHECK_OK(producer_mock_cluster_new(1, &cluster, &error));
  setenv("KAFKA_BOOTSTRAP", producer_mock_cluster_bootstrap_servers(cluster), 1);
  producer_slice_t topic = producer_str("letters");
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, topic, 1));

  /* Refused twice, then taken: in the order and with the time of the first run. One refusal is for
   * all three: they linger until the flush takes them together. */
  const int32_t refused[] = {PRODUCER_ERR_TOPIC_AUTHORIZATION_FAILED};
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_push_errors(cluster, 0, refused, 1));
  check_run(1, "0 delivered, 3 kept in ", "a\\n\\nccc\\n", "letters -X linger.ms=60000");
  struct timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  int64_t first_run_ended = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000;
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_push_errors(cluster, 0, refused, 1));
  check_run(1, "0 delivered, 3 kept in ", "", "-X linger.ms=60000");
  CHECK_EQ(0, producer_mock_cluster_end_offset(cluster, topic, 0));
  check_run(0, "3 delivered, 0 kept in ", "", "");
  const char *lines[] = {"a", "", "ccc"};
  for (int i = 0; i < 3; i++) {
    producer_record_t read;
    CHECK(producer_mock_cluster_read(cluster, topic, 0, i, &read));
    CHECK(read.key.data == NULL && read.value.data != NULL);
    CHECK(read.value.len == strlen(lines[i]) && !memcmp(read.value.data, lines[i], read.value.len));
    CHECK(read.timestamp_ms <= first_run_ended);
  }

  /* Both sources at once: the letters come first. */
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_push_errors(cluster, 0, refused, 1));
  check_run(1, "0 delivered, 1 kept in ", "old\\n", "letters");
  check_run(0, "2 delivered, 0 kept in ", "new\\n", "letters");
  producer_record_t read;
  CHECK(producer_mock_cluster_read(cluster, topic, 0, 3, &read) && read.value.data[0] == 'o');
  CHECK(producer_mock_cluster_read(cluster, topic, 0, 4, &read) && read.value.data[0] == 'n');

  /* Written, and the answer lost: kept, said, and there twice in the end. */
  const int32_t cut[] = {-1000};
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_push_errors(cluster, 0, cut, 1));
  char output[512];
  const char *once = "letters -X retries=0 -X enable.idempotence=false";
  CHECK_EQ(1, run("d\\n", once, output, sizeof output));
  CHECK(strstr(output, "0 delivered, 1 kept in "));
  CHECK(strstr(output, " (1 of them may be delivered)"));
  check_run(0, "1 delivered, 0 kept in ", "", "");
  CHECK_EQ(7, producer_mock_cluster_end_offset(cluster, topic, 0));

  /* No broker: nothing is lost. */
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, false, false, 0, 0));
  check_run(1, "0 delivered, 2 kept in ", "x\\ny\\n", "letters -X max.block.ms=200");
  check_run(1, "0 delivered, 2 kept in ", "", "-X max.block.ms=200");
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, true, false, 0, 0));
  check_run(0, "2 delivered, 0 kept in ", "", "");
  CHECK_EQ(9, producer_mock_cluster_end_offset(cluster, topic, 0));

  /* What is no file of letters is refused, and stays. */
  FILE *other = fopen(file, "w");
  CHECK(other && fputs("something else, of more than a few bytes\n", other) >= 0);
  CHECK_EQ(0, fclose(other));
  CHECK_EQ(2, run("", "", output, sizeof output));
  CHECK_EQ(0, remove(aside));
  producer_mock_cluster_free(cluster);
  return 0;
}
