/*
 * The few declarations of librdkafka's public interface that the driver needs, as they have been
 * since 1.0: the library is taken from a Python wheel, which has no header.
 */
#ifndef RDKAFKA_H
#define RDKAFKA_H
#include <stddef.h>
#include <stdint.h>

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_topic_conf_s rd_kafka_topic_conf_t;

typedef struct {
  int err;
  rd_kafka_topic_t *rkt;
  int32_t partition;
  void *payload;
  size_t len;
  void *key;
  size_t key_len;
  int64_t offset;
  void *_private;
} rd_kafka_message_t;

enum { RD_KAFKA_PRODUCER = 0, RD_KAFKA_CONF_OK = 0 };
enum { RD_KAFKA_MSG_F_COPY = 0x2, RD_KAFKA_MSG_F_BLOCK = 0x4, RD_KAFKA_MSG_F_PARTITION = 0x8 };
enum { RD_KAFKA_RESP_ERR__QUEUE_FULL = -184 };

typedef void rd_kafka_dr_msg_cb_t(rd_kafka_t *, const rd_kafka_message_t *, void *);

/* Name, result, arguments: the driver makes a table of pointers of it. */
#define RD_KAFKA_FUNCTIONS(X)                                                                      \
  X(rd_kafka_version_str, const char *, (void))                                                    \
  X(rd_kafka_err2str, const char *, (int))                                                         \
  X(rd_kafka_last_error, int, (void))                                                              \
  X(rd_kafka_conf_new, rd_kafka_conf_t *, (void))                                                  \
  X(rd_kafka_conf_set, int, (rd_kafka_conf_t *, const char *, const char *, char *, size_t))       \
  X(rd_kafka_conf_set_dr_msg_cb, void, (rd_kafka_conf_t *, rd_kafka_dr_msg_cb_t *))                \
  X(rd_kafka_new, rd_kafka_t *, (int, rd_kafka_conf_t *, char *, size_t))                          \
  X(rd_kafka_topic_new, rd_kafka_topic_t *, (rd_kafka_t *, const char *, rd_kafka_topic_conf_t *)) \
  X(rd_kafka_topic_destroy, void, (rd_kafka_topic_t *))                                            \
  X(rd_kafka_produce, int,                                                                         \
    (rd_kafka_topic_t *, int32_t, int, void *, size_t, const void *, size_t, void *))              \
  X(rd_kafka_produce_batch, int, (rd_kafka_topic_t *, int32_t, int, rd_kafka_message_t *, int))    \
  X(rd_kafka_poll, int, (rd_kafka_t *, int))                                                       \
  X(rd_kafka_flush, int, (rd_kafka_t *, int))                                                      \
  X(rd_kafka_destroy, void, (rd_kafka_t *))
#endif
