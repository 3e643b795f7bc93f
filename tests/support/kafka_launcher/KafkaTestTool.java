// What tests need of Apache Kafka's own code: the storage formatter, the consumer and the
// producer's choice of partitions. Compiled once by the program `kafka`, and run by it.
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serializer;

public final class KafkaTestTool {
    private static final PrintStream OUT = new PrintStream(
        new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16), false,
        StandardCharsets.UTF_8);

    private static final Duration POLL = Duration.ofMillis(100);

    public static void main(String[] args) throws Exception {
        String[] rest = Arrays.copyOfRange(args, 1, args.length);
        int exit = switch (args[0]) {
            case "format" -> format(rest);
            case "consume" -> consume(rest);
            case "partitions" -> partitions(rest);
            case "serialized" -> serialized(rest);
            default -> throw new IllegalArgumentException(args[0]);
        };
        OUT.flush();
        System.exit(exit);
    }

    // CLUSTER_ID CONFIG...: formats the storage of every node's configuration file.
    private static int format(String[] args) {
        for (String config : Arrays.copyOfRange(args, 1, args.length)) {
            int status = kafka.tools.StorageTool.execute(
                new String[] {"format", "--cluster-id", args[0], "--config", config}, System.err);
            if (status != 0) return status;
        }
        return 0;
    }

    // BOOTSTRAP COUNT TIMEOUT_MS TOPIC...: prints COUNT records, or, with -1, those up to the
    // present end. Exit status 4: not done in time.
    private static int consume(String[] args) {
        long count = Long.parseLong(args[1]);
        long deadline = System.nanoTime() + Long.parseLong(args[2]) * 1_000_000L;
        List<String> topics = Arrays.asList(args).subList(3, args.length);
        Properties config = new Properties();
        config.put("bootstrap.servers", args[0]);
        config.put("enable.auto.commit", "false");
        config.put("allow.auto.create.topics", "false");
        config.put("fetch.max.wait.ms", "100");
        config.put("max.poll.records", "10000");
        config.put("default.api.timeout.ms", args[2]);
        long consumed = 0;
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config, bytes, bytes)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (String topic : topics) {
                for (PartitionInfo info : consumer.partitionsFor(topic)) {
                    partitions.add(new TopicPartition(topic, info.partition()));
                }
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends =
                count < 0 ? consumer.endOffsets(partitions) : new HashMap<>();
            while (count < 0 ? !reached(consumer, ends) : consumed < count) {
                if (System.nanoTime() > deadline) {
                    System.err.println("timeout after " + consumed + " records");
                    return 4;
                }
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    Long end = ends.get(new TopicPartition(record.topic(), record.partition()));
                    if (count < 0 ? record.offset() < end : consumed < count) {
                        print(record);
                        consumed++;
                    }
                }
            }
        }
        return 0;
    }

    private static boolean reached(
            KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, Long> ends) {
        for (Map.Entry<TopicPartition, Long> end : ends.entrySet()) {
            if (consumer.position(end.getKey()) < end.getValue()) return false;
        }
        return true;
    }

    private static void print(ConsumerRecord<byte[], byte[]> record) {
        StringBuilder line = new StringBuilder("{\"topic\":\"").append(record.topic())
            .append("\",\"partition\":").append(record.partition())
            .append(",\"offset\":").append(record.offset())
            .append(",\"timestamp\":").append(record.timestamp())
            .append(",\"timestamp_type\":\"").append(record.timestampType().name)
            .append("\",\"key\":").append(base64(record.key()))
            .append(",\"value\":").append(base64(record.value()))
            .append(",\"headers\":[");
        String separator = "";
        for (Header header : record.headers()) {
            line.append(separator).append('[')
                .append(base64(header.key().getBytes(StandardCharsets.UTF_8))).append(',')
                .append(base64(header.value())).append(']');
            separator = ",";
        }
        OUT.append(line.append("]}\n"));
    }

    private static String base64(byte[] bytes) {
        return bytes == null ? "null" : '"' + Base64.getEncoder().encodeToString(bytes) + '"';
    }

    // BOOTSTRAP TOPIC < base64 of a key per line: sends a record of each key, and prints where the
    // producer put it.
    private static int partitions(String[] args) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", args[0]);
        config.put("acks", "all");
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                 new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
             BufferedReader keys = new BufferedReader(
                 new InputStreamReader(System.in, StandardCharsets.US_ASCII))) {
            for (String line = keys.readLine(); line != null; line = keys.readLine()) {
                byte[] key = Base64.getDecoder().decode(line);
                sent.add(producer.send(new ProducerRecord<>(args[1], key, new byte[0])));
            }
        }
        for (Future<RecordMetadata> one : sent) OUT.append(one.get().partition() + "\n");
        return 0;
    }

    // BOOTSTRAP NAME < base64 of bytes per line: prints what NAMEDeserializer makes of them, as
    // text, and NAMESerializer of that, both in base64.
    @SuppressWarnings("unchecked")
    private static int serialized(String[] args) throws Exception {
        String name = "org.apache.kafka.common.serialization." + args[1];
        Deserializer<Object> deserializer = (Deserializer<Object>)
            Class.forName(name + "Deserializer").getDeclaredConstructor().newInstance();
        Serializer<Object> serializer = (Serializer<Object>)
            Class.forName(name + "Serializer").getDeclaredConstructor().newInstance();
        BufferedReader lines = new BufferedReader(
            new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Object value = deserializer.deserialize("topic", Base64.getDecoder().decode(line));
            byte[] text = String.valueOf(value).getBytes(StandardCharsets.UTF_8);
            OUT.append(Base64.getEncoder().encodeToString(text)).append('\t')
                .append(Base64.getEncoder().encodeToString(serializer.serialize("topic", value)))
                .append('\n');
        }
        return 0;
    }
}
