import type { FastifyInstance } from 'fastify'
import { ProblemError } from '../../errors.ts'

/** Ordinary bodies have fewer levels. Recursive code can process this many levels without a stack overflow. */
const maxDepth = 100

const maxViolations = 100

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Parses JSON bodies strictly. Refuses:
 * - encodings other than UTF-8
 * - members that would change a prototype
 * - values that Postgres rejects or changes (PostgreSQL manual, 8.14): `\u0000`, lone surrogates and numbers beyond the
 *   range of a double
 * - values that are nested too deeply
 *
 * A number with too many digits for a double is rounded (RFC 8259, section 6).
 */
export function parseJsonStrictly(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  // Removes Fastify's default parsers, because they also accept text/plain.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    // Some clients send a Content-Type with a DELETE request that has no body.
    if (request.method === 'DELETE' && body.length === 0) return done(null, undefined)
    let text: string
    try {
      text = utf8.decode(body as Buffer)
    } catch (error) {
      done(new ProblemError('malformed-json', 'The body is not UTF-8', { cause: error }))
      return
    }
    parse(request, text, (error, value) => {
      const details = error ? [] : findUnstorable(value)
      done(error ?? (details.length > 0 ? new ProblemError('invalid-body', undefined, { details }) : null), value)
    })
  })
}

/** Ignores request bodies of any media type. */
export function ignoreBodies(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('*', (_request, _payload, done) => done(null))
  // Without this hook, Fastify would answer 415 for a malformed Content-Type.
  scope.addHook('onRequest', async ({ headers }) => {
    delete headers['content-type']
  })
}

interface Violation {
  pointer: string
  keyword: 'storable'
  message: string
}

interface Node {
  value: unknown
  name?: string
  parent?: Node
  depth: number
}

/**
 * Finds at most 100 values and member names that Postgres cannot store unchanged. The search is not recursive, so a
 * deeply nested document causes no stack overflow.
 */
export function findUnstorable(document: unknown): Violation[] {
  const violations: Violation[] = []
  const report = (node: Node, message: string) =>
    violations.push({ pointer: pointerTo(node), keyword: 'storable', message })
  const stack: Node[] = [{ value: document, depth: 0 }]
  for (let node = stack.pop(); node && violations.length < maxViolations; node = stack.pop()) {
    const { value, depth } = node
    const message =
      whyUnstorable(value) ?? (depth > maxDepth ? `must not be nested deeper than ${maxDepth}` : undefined)
    if (message) report(node, message)
    if (message || typeof value !== 'object' || value === null) continue
    const members = Object.entries(value)
    const nameMessage = members.map(([name]) => whyUnstorable(name)).find(Boolean)
    if (nameMessage) report(node, `has a member whose name ${nameMessage}`)
    for (const [name, member] of members.toReversed()) {
      stack.push({ value: member, name, parent: node, depth: depth + 1 })
    }
  }
  return violations
}

// RFC 6901, section 3.
function pointerTo({ name, parent }: Node): string {
  if (!parent || name === undefined) return ''
  return `${pointerTo(parent)}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`
}

function whyUnstorable(value: unknown): string | undefined {
  if (typeof value === 'number' && !Number.isFinite(value)) return 'must be a number that fits a double'
  if (typeof value !== 'string') return undefined
  if (value.includes('\0')) return 'must not contain U+0000'
  if (!value.isWellFormed()) return 'must not contain lone surrogates'
  return undefined
}
