// Exits with 0 if the library it was linked with is of the version given as argument, and works.
#include <kafka_producer.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  if (argc != 2 || strcmp(producer_version(), argv[1]) != 0) {
    printf("the library's version is %s\n", producer_version());
    return 1;
  }
  producer_config_t *config = producer_config_new();
  producer_error_t error;
  producer_status_t status = producer_config_set(config, "linger.ms", "5", &error);
  if (status != PRODUCER_OK) printf("%s\n", error.message);
  producer_config_free(config);
  return status == PRODUCER_OK ? 0 : 1;
}
