/** The W3C Trace Context of a request or a job: its headers `traceparent` and `tracestate`. */
export interface TraceContext {
  traceparent?: string | undefined
  tracestate?: string | undefined
}

// W3C Trace Context, section 3.2.2.
const traceparentPattern = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/
/** Longer values are dropped. W3C Trace Context, section 3.3.1.5: at least 512 characters should be passed on. */
const tracestatePattern = /^[\x20-\x7e]{1,512}$/

/** Returns whether a header `traceparent` is well-formed. */
export const isTraceparent = (value: unknown): value is string =>
  typeof value === 'string' && traceparentPattern.test(value)

/** Returns whether a header `tracestate` can be stored and passed on. */
export const isTracestate = (value: unknown): value is string =>
  typeof value === 'string' && tracestatePattern.test(value)

/** The ids in a `traceparent`. */
export interface SpanIds {
  traceId: string
  spanId: string
  traceFlags: number
}

/** Parses a `traceparent`. Returns undefined if it is absent or malformed. */
export function parseTraceparent(value: string | null | undefined): SpanIds | undefined {
  const [, traceId, spanId, flags] = traceparentPattern.exec(value ?? '') ?? []
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) }
}

/** Returns the members of a log line that name a span, as OpenTelemetry names them. */
export function traceLogMembers({ traceparent }: { traceparent?: string | null | undefined }): {
  trace_id?: string
  span_id?: string
} {
  const ids = parseTraceparent(traceparent)
  return ids ? { trace_id: ids.traceId, span_id: ids.spanId } : {}
}
