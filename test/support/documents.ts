import { createConfig, lintFromString } from '@redocly/openapi-core'
import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { headerFields } from '../../src/http/protocol/schemas.ts'

/** Lints an OpenAPI or AsyncAPI document with Redocly. Returns one line per problem. */
export async function lint(document: object, rules: Record<string, string> = {}): Promise<string[]> {
  const config = await createConfig({ extends: ['recommended'], rules: rules as never })
  const problems = await lintFromString({ source: JSON.stringify(document), config })
  return problems.map(({ ruleId, message, location }) => `${ruleId}: ${message} (${location[0]?.pointer})`)
}

interface Response {
  status: number
  headers: Headers
  /** A JSON body is parsed. */
  body: unknown
}

/** Checks real responses against an OpenAPI document. */
export interface Checker {
  /** Returns one line for each part of the response that the document does not allow. */
  violations(method: string, path: string, response: Response): string[]
}

// biome-ignore lint/suspicious/noExplicitAny: a document of any shape
export function createChecker(document: any): Checker {
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  // biome-ignore lint/suspicious/noExplicitAny: the CommonJS types of ajv-formats do not match this import
  ;(formats as any)(ajv)
  ajv.addSchema(document, 'document')
  const escaped = (part: string) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))
  const validate = (parts: readonly string[], value: unknown): string[] => {
    const validator = ajv.compile({ $ref: `document#/${parts.map(escaped).join('/')}` })
    if (validator(value)) return []
    return (validator.errors ?? []).map(({ instancePath, message }) => `${parts.at(-2)}${instancePath} ${message}`)
  }

  return {
    violations(method, path, { status, headers, body }) {
      const mediaType = headers.get('content-type')?.split(';')[0] ?? ''
      // A browser gets each error as a page, which is not for programs.
      if (status >= 400 && mediaType === 'text/html') return []
      const parts = ['paths', path, method.toLowerCase(), 'responses']
      const responses = document.paths[path]?.[method.toLowerCase()]?.responses
      const key = [String(status), `${String(status)[0]}XX`, 'default'].find((one) => responses?.[one])
      if (!key) return [`${method} ${path}: no status ${status}`]
      const described = responses[key]
      const wrong: string[] = []
      if (body !== undefined && !described.content?.[mediaType]) wrong.push(`${status}: no content ${mediaType}`)
      else if (body !== undefined) wrong.push(...validate([...parts, key, 'content', mediaType, 'schema'], body))
      for (const [name, { schema }] of Object.entries<{ schema: { type?: string } }>(described.headers ?? {})) {
        const value = headers.get(name)
        if (value === null) continue
        const typed = schema.type === 'integer' ? Number(value) : value
        wrong.push(...validate([...parts, key, 'headers', name, 'schema'], typed))
      }
      const declared = new Set(Object.keys(described.headers ?? {}).map((name) => name.toLowerCase()))
      for (const name of Object.keys(headerFields).map((one) => one.toLowerCase())) {
        if (headers.has(name) && !declared.has(name)) wrong.push(`${status}: no header ${name}`)
      }
      return wrong
    },
  }
}
