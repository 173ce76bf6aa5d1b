INSERT INTO `delays` SELECT carrier, carrier, delay FROM flights WHERE delay > 0
