import type { OutgoingHttpHeaders } from 'node:http'
import type { Test } from 'tap'
import { until } from '../support/until.ts'

/** A block of an event stream: an event, a comment or a `retry`. */
export interface Block {
  event?: string
  id?: string
  retry?: string
  comment?: string
  /** The data as JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: the data is what the test is about
  data?: any
}

/** An event stream that is being read. */
export interface Listening {
  status: number
  headers: Headers
  /** Everything received so far. */
  blocks: Block[]
  /** The events so far: what is neither a comment nor a `retry` alone. */
  events(): Block[]
  /** Waits for an event that is as described, and answers the first. */
  event(holds: (event: Block) => unknown): Promise<Block>
  isEnded(): boolean
  /** Waits for the end of the stream. */
  end(): Promise<void>
  /** Leaves. */
  close(): void
}

/** Opens an event stream and reads it in the background; it is closed with the test. */
export async function listen(t: Test, url: string, headers: OutgoingHttpHeaders = {}): Promise<Listening> {
  const leaving = new AbortController()
  t.teardown(() => leaving.abort())
  const response = await fetch(url, { headers: headers as Record<string, string>, signal: leaving.signal })
  const blocks: Block[] = []
  let isEnded = false
  const read = async () => {
    let text = ''
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk, { stream: true })
      const whole = text.replaceAll(/\r\n?/g, '\n').split('\n\n')
      text = whole.pop() as string
      blocks.push(...whole.map(parseBlock))
    }
  }
  read()
    .catch(() => {})
    .finally(() => {
      isEnded = true
    })
  const events = () => blocks.filter(({ data }) => data !== undefined)
  return {
    status: response.status,
    headers: response.headers,
    ...{ blocks, events, isEnded: () => isEnded, close: () => leaving.abort() },
    event: (holds) => until(() => events().find(holds)),
    end: async () => {
      await until(() => isEnded)
    },
  }
}

// WHATWG HTML, section 9.2.6.
function parseBlock(text: string): Block {
  const block: Block = {}
  const data: string[] = []
  for (const line of text.split('\n')) {
    const [, field = '', value = ''] = line.match(/^([^:]*):? ?(.*)$/) ?? []
    if (field === 'data') data.push(value)
    else if (field === '') block.comment = value
    else if (field === 'event' || field === 'id' || field === 'retry') block[field] = value
  }
  if (data.length > 0) block.data = JSON.parse(data.join('\n'))
  return block
}
