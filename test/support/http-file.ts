/** A request of a file in the syntax of the VS Code extension REST Client. */
export interface HttpRequest {
  title: string
  /** The status that the file states in a comment: `# → 200`. */
  status: number
  /** The name by which later requests refer to this one. */
  name: string | undefined
  method: string
  url: string
  headers: Record<string, string>
  /** The body, or the path of the file that contains it. */
  body: { text: string } | { file: string } | undefined
}

/** Reads the requests of a file. Its first block contains only variables. */
export function parseHttpFile(text: string): HttpRequest[] {
  const [, ...blocks] = text.split(/^### /m).slice(1)
  return blocks.map((block) => {
    const [title = '', ...lines] = block.split('\n')
    const annotation = (pattern: RegExp) => lines.map((line) => line.match(pattern)?.[1]).find(Boolean)
    const request = lines.filter((line) => !line.startsWith('#'))
    const blank = request.indexOf('')
    const [method = '', url = ''] = request[0]?.split(' ') ?? []
    const body = request.slice(blank).join('\n').trim()
    const [, file] = body.match(/^< (.+)$/) ?? []
    return {
      ...{ title, method, url },
      status: Number(annotation(/^# → (\d+)/)),
      name: annotation(/^# @name (\w+)/),
      headers: Object.fromEntries(request.slice(1, blank).map((line) => line.split(': ') as [string, string])),
      body: file ? { file } : body ? { text: body } : undefined,
    }
  })
}

/** A response to which later requests refer. */
export interface NamedResponse {
  headers: Headers
  body: unknown
}

/** Replaces `{{host}}`, `{{name.response.headers.location}}` and `{{name.response.body.$.id}}`. */
export function fillVariables(text: string, host: string, responses: ReadonlyMap<string, NamedResponse>): string {
  return text.replace(/\{\{(.+?)\}\}/g, (variable, path: string) => {
    if (path === 'host') return host
    const [, name = '', header = '', members = ''] =
      path.match(/^(\w+)\.response\.(?:headers\.([\w-]+)|body\.\$\.([\w.]+))$/) ?? []
    const response = responses.get(name)
    const value = header
      ? response?.headers.get(header)
      : members.split('.').reduce<unknown>((found, member) => Object(found)[member], response?.body)
    if (typeof value !== 'string') throw new Error(`${variable} has no value`)
    return value
  })
}

/** Translates a file into the syntax of httpyac, in which a variable is an expression, and a status an assertion. */
export function toHttpyac(text: string): string {
  const blocks = text
    .replace(/\{\{(\w+)\.response\.body\.\$\./g, '{{$1.')
    .replace(/\{\{(\w+)\.response\.headers\.([\w-]+)/g, "{{$1Response.headers['$2']")
    .split(/^(?=### )/m)
  const [, ...requests] = blocks
  const variables =
    '### The requests of todos.http, in the syntax of httpyac: npx httpyac send httpyac.http --all\n@host = http://127.0.0.1:3000\n\n'
  return (
    variables +
    requests
      .map((block) => {
        const [, status] = block.match(/^# → (\d+)\n/m) ?? []
        return `${block.replace(/^# → \d+\n/m, '').trimEnd()}\n\n?? status == ${status}\n`
      })
      .join('\n')
  )
}
