INSERT INTO delays (carrier, mean) SELECT carrier, delay FROM flights
