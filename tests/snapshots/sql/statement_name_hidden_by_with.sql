INSERT INTO `delays` WITH airlines AS (SELECT carrier, 'x' AS name, delay FROM flights) SELECT * FROM airlines
