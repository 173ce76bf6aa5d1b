package hlink.models;

import java.io.IOException;
import java.io.InputStream;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.types.DataType;

/** What is known of a model without loading it: {@code <model>.json}, as {@code stream_jobs/models} writes it. */
final class Description {
    /** What SQL calls the features, in their order; their types; the model's inputs that take them. */
    final String[] arguments;

    final DataType[] types;
    final String[] inputs;
    /** The output of labels or values, and its type. */
    final String output;

    final DataType result;
    /** The output of the classes' probabilities, and the place of the positive one among them; below 0: there is none. */
    final String probabilities;

    final int positive;
    /** Whether it works with rows that lack values. */
    final boolean takesMissing;

    private Description(JsonNode read) {
        JsonNode features = read.get("features");
        arguments = new String[features.size()];
        types = new DataType[features.size()];
        inputs = new String[features.size()];
        for (int i = 0; i < arguments.length; i++) {
            arguments[i] = features.get(i).get("argument").asText();
            types[i] = type(features.get(i).get("type").asText());
            inputs[i] = features.get(i).get("input").asText();
        }
        output = read.get("output").asText();
        result = type(read.get("result").asText());
        probabilities = read.get("probabilities").asText();
        positive = read.get("positive").asInt();
        takesMissing = read.get("takes_missing").asBoolean();
    }

    /** Of the model whose files lie beside that class. */
    static Description of(Class<?> beside, String model) {
        try (InputStream file = beside.getResourceAsStream(model + ".json")) {
            if (file == null) {
                throw new IllegalStateException("the jar of model " + model + " lacks its description");
            }
            return new Description(new ObjectMapper().readTree(file));
        } catch (IOException e) {
            throw new IllegalStateException("the description of model " + model + " cannot be read", e);
        }
    }

    private static DataType type(String name) {
        switch (name) {
            case "DOUBLE":
                return DataTypes.DOUBLE();
            case "BIGINT":
                return DataTypes.BIGINT();
            case "BOOLEAN":
                return DataTypes.BOOLEAN();
            case "STRING":
                return DataTypes.STRING();
            case "TIMESTAMP(3)":
                return DataTypes.TIMESTAMP(3);
            case "TIMESTAMP_LTZ(3)":
                return DataTypes.TIMESTAMP_LTZ(3);
            default:
                throw new IllegalStateException("models have no type " + name);
        }
    }
}
