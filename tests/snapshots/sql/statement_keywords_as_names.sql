INSERT INTO `table` SELECT `order`, `a``b;'c"` FROM `select`
