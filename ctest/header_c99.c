/* The headers in C99: compiled without extensions, zeroed structs, and what needs no producer. */
#include <kafka_producer.h>
#include <kafka_producer_mock.h>

#include <stdio.h>
#include <string.h>

static int failures = 0;

static void check(int condition, const char *what) {
  if (condition) return;
  fprintf(stderr, "not true: %s\n", what);
  failures++;
}

int main(void) {
  producer_record_t record = {.topic = producer_str("topic")};
  char version[32];

  snprintf(version, sizeof version, "%d.%d.%d", PRODUCER_VERSION_MAJOR, PRODUCER_VERSION_MINOR,
           PRODUCER_VERSION_PATCH);
  check(strcmp(version, producer_version()) == 0, "the header's version is the library's");

  check(record.topic.len == 5 && record.flags == 0, "designated initialisers");
  check(producer_str(NULL).data == NULL && producer_str(NULL).len == 0, "no text is null");
  check(producer_str("").data != NULL && producer_str("").len == 0, "an empty text is empty");

  check(strcmp(producer_status_name(PRODUCER_OK), "PRODUCER_OK") == 0, "PRODUCER_OK");
  check(strcmp(producer_status_name(PRODUCER_ERR_CLOSED), "PRODUCER_ERR_CLOSED") == 0, "CLOSED");
  check(strcmp(producer_status_name(PRODUCER_ERR_NOT_ENOUGH_REPLICAS),
               "PRODUCER_ERR_NOT_ENOUGH_REPLICAS") == 0, "a code of Kafka's");
  check(strcmp(producer_status_name(-1), "PRODUCER_ERR_UNKNOWN_SERVER_ERROR") == 0, "-1");
  for (int status = -200; status < 200; status++) {
    const char *name = producer_status_name(status);
    const char *sentence = producer_status_message(status);
    check(name && strncmp(name, "PRODUCER_", 9) == 0, "every number has a name");
    check(sentence && strlen(sentence) > 5, "every number has a sentence");
    check(name == producer_status_name(status), "names are static");
  }
  return failures != 0;
}
