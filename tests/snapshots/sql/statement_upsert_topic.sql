INSERT INTO `latest` SELECT carrier, COUNT(*) FROM flights GROUP BY carrier
