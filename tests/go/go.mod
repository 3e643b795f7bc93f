module kafkaproducer.test/go

go 1.19
