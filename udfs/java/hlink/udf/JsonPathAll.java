package hlink.udf;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.shaded.com.jayway.jsonpath.Configuration;
import org.apache.flink.shaded.com.jayway.jsonpath.InvalidJsonException;
import org.apache.flink.shaded.com.jayway.jsonpath.InvalidPathException;
import org.apache.flink.shaded.com.jayway.jsonpath.JsonPath;
import org.apache.flink.shaded.com.jayway.jsonpath.Option;
import org.apache.flink.shaded.com.jayway.jsonpath.spi.json.JacksonJsonProvider;
import org.apache.flink.shaded.com.jayway.jsonpath.spi.mapper.JacksonMappingProvider;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * {@code JSON_PATH_ALL(json, path)}: all that a JSONPath finds in a text, as an array of texts, where JSON_VALUE gives one
 * scalar and JSON_QUERY one text of JSON. Found texts come without quotes, all else as JSON. Nothing found is an empty
 * array; a text that is not JSON gives NULL, a path that is none ends the job.
 */
public final class JsonPathAll extends ScalarFunction {
    private static final int KEPT_PATHS = 100;
    private static final Configuration SETTINGS =
            Configuration.builder()
                    .jsonProvider(new JacksonJsonProvider())
                    .mappingProvider(new JacksonMappingProvider())
                    .options(Option.ALWAYS_RETURN_LIST, Option.SUPPRESS_EXCEPTIONS)
                    .build();

    private transient Map<String, JsonPath> paths;

    public String[] eval(String json, String path) {
        if (json == null || path == null) {
            return null;
        }
        JsonPath compiled = compiled(path);
        List<Object> found;
        try {
            Object document = JsonPath.using(SETTINGS).parse(json).json();
            found = compiled.read(document, SETTINGS);
        } catch (InvalidJsonException | IllegalArgumentException e) {
            return null;
        }
        return found.stream().map(JsonPathAll::text).toArray(String[]::new);
    }

    private JsonPath compiled(String path) {
        if (paths == null || paths.size() > KEPT_PATHS) {
            paths = new LinkedHashMap<>();
        }
        try {
            return paths.computeIfAbsent(path, JsonPath::compile);
        } catch (InvalidPathException e) {
            throw new IllegalArgumentException("'" + path + "' is not a JSONPath: " + e.getMessage(), e);
        }
    }

    private static String text(Object value) {
        if (value == null) {
            return null;
        }
        return value instanceof String ? (String) value : SETTINGS.jsonProvider().toJson(value);
    }
}
