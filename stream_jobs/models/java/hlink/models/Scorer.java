package hlink.models;

import ai.onnxruntime.NodeInfo;
import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.lang.reflect.Array;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/**
 * A model in onnxruntime that takes one row at a time, for one thread.
 *
 * <p>Numbers are written into memory that the model reads its inputs from: a row costs no allocation but for its texts.
 */
final class Scorer implements AutoCloseable {
    private static final long[] ONE = {1, 1};

    private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
    private final Description description;
    private final OrtSession session;
    private final Map<String, OnnxTensor> inputs = new HashMap<>();
    private final OnnxJavaType[] types;
    private final ByteBuffer[] memory;
    private final Set<String> output;
    private final Set<String> probabilities;

    Scorer(byte[] model, Description description) throws OrtException {
        this.description = description;
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            // Flink's parallelism is what makes it fast; threads of its own would compete with the slots.
            options.setIntraOpNumThreads(1);
            options.setInterOpNumThreads(1);
            session = environment.createSession(model, options);
        }
        types = new OnnxJavaType[description.inputs.length];
        memory = new ByteBuffer[types.length];
        output = Set.of(description.output);
        probabilities = Set.of(description.probabilities);
        try {
            Map<String, NodeInfo> known = session.getInputInfo();
            for (int i = 0; i < types.length; i++) {
                NodeInfo input = known.get(description.inputs[i]);
                if (input == null) {
                    throw new IllegalStateException("the model has no input " + description.inputs[i]);
                }
                types[i] = ((TensorInfo) input.getInfo()).type;
                if (types[i] != OnnxJavaType.STRING) {
                    memory[i] = ByteBuffer.allocateDirect(types[i].size).order(ByteOrder.nativeOrder());
                    inputs.put(description.inputs[i], OnnxTensor.createTensor(environment, memory[i], ONE, types[i]));
                }
            }
        } catch (OrtException | RuntimeException e) {
            close();
            throw e;
        }
    }

    /** Takes a value of the row; whether the model can work with it: not where it is missing and must not be. */
    boolean put(int feature, Object value) throws OrtException {
        if (value == null || value instanceof Double && ((Double) value).isNaN()) {
            if (!description.takesMissing) {
                return false;
            }
            value = missing(types[feature]);
            if (value == null) {
                return false;
            }
        }
        if (value instanceof Boolean) {
            value = (Boolean) value ? 1L : 0L;
        } else if (value instanceof LocalDateTime) {
            value = ((LocalDateTime) value).toInstant(ZoneOffset.UTC).toEpochMilli();
        } else if (value instanceof Instant) {
            value = ((Instant) value).toEpochMilli();
        }
        switch (types[feature]) {
            case DOUBLE:
                memory[feature].putDouble(0, ((Number) value).doubleValue());
                return true;
            case FLOAT:
                memory[feature].putFloat(0, ((Number) value).floatValue());
                return true;
            case INT64:
                memory[feature].putLong(0, ((Number) value).longValue());
                return true;
            case BOOL:
                memory[feature].put(0, ((Number) value).byteValue());
                return true;
            case STRING:
                OnnxTensor text = OnnxTensor.createTensor(environment, new String[] {(String) value}, ONE);
                closeIfThere(inputs.put(description.inputs[feature], text));
                return true;
            default:
                throw new IllegalStateException(
                        "input " + description.inputs[feature] + " is of type " + types[feature] + ", which no column has");
        }
    }

    /** What the model says of the row, as the description's type has it. */
    Object prediction() throws OrtException {
        try (OrtSession.Result found = session.run(inputs, output)) {
            Object value = first(found.get(0).getValue());
            if (value instanceof Float) {
                return ((Float) value).doubleValue();
            }
            return value instanceof Integer ? ((Integer) value).longValue() : value;
        }
    }

    /** The probabilities of the classes, in their order. */
    double[] probabilities() throws OrtException {
        try (OrtSession.Result found = session.run(inputs, probabilities)) {
            Object row = ((Object[]) found.get(0).getValue())[0];
            double[] of = new double[Array.getLength(row)];
            for (int i = 0; i < of.length; i++) {
                of[i] = ((Number) Array.get(row, i)).doubleValue();
            }
            return of;
        }
    }

    @Override
    public void close() throws OrtException {
        inputs.values().forEach(OnnxTensor::close);
        inputs.clear();
        session.close();
    }

    /** What stands for a value that is missing; null where none may be. */
    private static Object missing(OnnxJavaType type) {
        switch (type) {
            case DOUBLE:
            case FLOAT:
                return Double.NaN;
            case STRING:
                return "";
            default:
                return null;
        }
    }

    private static Object first(Object value) {
        while (value.getClass().isArray()) {
            value = Array.get(value, 0);
        }
        return value;
    }

    private static void closeIfThere(OnnxTensor tensor) {
        if (tensor != null) {
            tensor.close();
        }
    }
}
