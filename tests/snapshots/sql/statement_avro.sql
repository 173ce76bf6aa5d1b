INSERT INTO `delays` SELECT carrier, 'x', ms + 0E0 FROM avro_flights
