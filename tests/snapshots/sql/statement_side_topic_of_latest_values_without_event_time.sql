INSERT INTO `latest` SELECT `order`, COUNT(pilot) FROM `select` s LEFT JOIN pilots ON s.`order` = pilots.carrier GROUP BY `order`
