import type * as OpenTelemetry from '@opentelemetry/api'
import { serializeError } from './redact.ts'
import { parseTraceparent, type TraceContext } from './trace-context.ts'
import { packageVersion } from './version.ts'

export type Attributes = Readonly<Record<string, string | number | boolean>>

/** What a new span gets. */
export interface NewSpan {
  /** Default: `internal`. */
  kind?: 'producer' | 'consumer'
  /** The parent: a span, or the context of a span of another process. Default: the active span. */
  parent?: RecordedSpan | TraceContext | undefined
  /** Whether the span starts a trace of its own. Default: false. */
  isRoot?: boolean
  links?: readonly TraceContext[]
  attributes?: Attributes
  /** When the work has started, from {@link epochMs}. Default: now. */
  startedAt?: number | undefined
}

/** A span that has started. */
export interface RecordedSpan {
  /** The context to pass on, so that other spans become children of this span. */
  readonly context: TraceContext
  /** Runs a function so that the spans that it starts become children of this span. */
  run<Result>(work: () => Result): Result
  set(attributes: Attributes): void
  /** Records an error, without what looks like a credential. */
  fail(error: unknown, type: string): void
  end(): void
}

/** Records spans with the tracer provider that the app has registered with `@opentelemetry/api`. */
export interface Tracing {
  start(name: string, span: NewSpan): RecordedSpan
  /** Returns the context of the active span, if there is one. */
  activeContext(): TraceContext | undefined
  /** Runs a function so that the spans that it starts become children of a span of another process. */
  continue<Result>(context: TraceContext, work: () => Result): Result
}

/** Returns the time in milliseconds since 1970, with fractions. */
export const epochMs = (): number => performance.timeOrigin + performance.now()

/**
 * Loads the optional peer `@opentelemetry/api`. Returns undefined if it is not installed, or if the app has not
 * registered a tracer provider: then nothing is traced.
 */
export async function loadTracing(): Promise<Tracing | undefined> {
  const api = await import('@opentelemetry/api').catch(() => undefined)
  const provider = api?.trace.getTracerProvider()
  if (!api || !provider) return undefined
  // Without a registered provider, the proxy has no delegate.
  const isProxy = 'getDelegateTracer' in provider
  const tracer = isProxy
    ? (provider as OpenTelemetry.ProxyTracerProvider).getDelegateTracer('accepted', packageVersion())
    : provider.getTracer('accepted', packageVersion())
  return tracer && createTracing(api, tracer)
}

function createTracing(api: typeof OpenTelemetry, tracer: OpenTelemetry.Tracer): Tracing {
  const { trace, context, ROOT_CONTEXT } = api
  const kinds = { producer: api.SpanKind.PRODUCER, consumer: api.SpanKind.CONSUMER }

  const spanContextOf = ({ traceparent, tracestate }: TraceContext): OpenTelemetry.SpanContext | undefined => {
    const ids = parseTraceparent(traceparent)
    if (!ids) return undefined
    return { ...ids, isRemote: true, ...(tracestate && { traceState: api.createTraceState(tracestate) }) }
  }
  const withRemoteParent = (parent: TraceContext): OpenTelemetry.Context => {
    const spanContext = spanContextOf(parent)
    return spanContext ? trace.setSpanContext(ROOT_CONTEXT, spanContext) : ROOT_CONTEXT
  }
  const parentContext = ({ parent, isRoot }: NewSpan): OpenTelemetry.Context => {
    if (isRoot) return ROOT_CONTEXT
    if (parent instanceof Recorded) return parent.active
    return parent ? withRemoteParent(parent as TraceContext) : context.active()
  }

  class Recorded implements RecordedSpan {
    readonly active: OpenTelemetry.Context
    readonly context: TraceContext
    readonly #span: OpenTelemetry.Span
    readonly #endsByClock: boolean

    constructor(span: OpenTelemetry.Span, parent: OpenTelemetry.Context, endsByClock: boolean) {
      this.#span = span
      this.#endsByClock = endsByClock
      this.active = trace.setSpan(parent, span)
      this.context = toTraceContext(span.spanContext())
    }

    run<Result>(work: () => Result): Result {
      return context.with(this.active, work)
    }

    set(attributes: Attributes): void {
      this.#span.setAttributes(attributes)
    }

    fail(error: unknown, type: string): void {
      if (!this.#span.isRecording()) return
      const { type: name, message, stack } = serializeError(error)
      this.#span.recordException({ name, message, stack })
      this.#span.setAttribute('error.type', type)
      this.#span.setStatus({ code: api.SpanStatusCode.ERROR, message })
    }

    end(): void {
      // The SDK measures the end of a span with a given start only in whole milliseconds.
      this.#span.end(this.#endsByClock ? epochMs() : undefined)
    }
  }

  return {
    start(name, given) {
      const parent = parentContext(given)
      const { kind, attributes = {}, links = [], startedAt } = given
      const span = tracer.startSpan(
        name,
        {
          kind: kind ? kinds[kind] : api.SpanKind.INTERNAL,
          attributes: { ...attributes },
          links: links.flatMap((link) => spanContextOf(link) ?? []).map((spanContext) => ({ context: spanContext })),
          ...(startedAt !== undefined && { startTime: startedAt }),
        },
        parent,
      )
      return new Recorded(span, parent, startedAt !== undefined)
    },
    activeContext() {
      const active = trace.getSpanContext(context.active())
      return active && api.isSpanContextValid(active) ? toTraceContext(active) : undefined
    },
    continue: (remote, work) => context.with(withRemoteParent(remote), work),
  }
}

function toTraceContext({ traceId, spanId, traceFlags, traceState }: OpenTelemetry.SpanContext): TraceContext {
  const flags = traceFlags.toString(16).padStart(2, '0')
  return { traceparent: `00-${traceId}-${spanId}-${flags}`, tracestate: traceState?.serialize() || undefined }
}
