package hlink.udf;

import org.apache.flink.table.functions.ScalarFunction;

/**
 * {@code GEOHASH(latitude, longitude, length)}: the geohash of a place in degrees (WGS 84), 1 to 12 characters long; 5 are
 * about 5 km, 7 about 150 m. A place that is not on the earth gives NULL.
 */
public final class Geohash extends ScalarFunction {
    private static final String DIGITS = "0123456789bcdefghjkmnpqrstuvwxyz";
    private static final int LONGEST = 12;

    public String eval(Double latitude, Double longitude, Integer length) {
        if (latitude == null || longitude == null || length == null) {
            return null;
        }
        if (length < 1 || length > LONGEST) {
            throw new IllegalArgumentException("a geohash has 1 to " + LONGEST + " characters, not " + length);
        }
        if (!(Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180)) {
            return null;
        }
        double[] range = {-180, 180, -90, 90};
        StringBuilder hash = new StringBuilder(length);
        int axis = 0;
        while (hash.length() < length) {
            int digit = 0;
            for (int bit = 0; bit < 5; bit++) {
                double middle = (range[axis] + range[axis + 1]) / 2;
                boolean upper = (axis == 0 ? longitude : latitude) >= middle;
                range[upper ? axis : axis + 1] = middle;
                digit = digit * 2 + (upper ? 1 : 0);
                axis = 2 - axis;
            }
            hash.append(DIGITS.charAt(digit));
        }
        return hash.toString();
    }
}
