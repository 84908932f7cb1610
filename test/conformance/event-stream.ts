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
  // biome-ignore lint/suspicious/noExplicitAny: the test checks the data
  data?: any
}

/** An event stream that is being read. */
export interface OpenStream {
  status: number
  headers: Headers
  /** Everything received so far. */
  blocks: Block[]
  /** The blocks so far that have data. */
  events(): Block[]
  /** Waits for an event that matches, and returns the first one. */
  event(matches: (event: Block) => unknown): Promise<Block>
  isEnded(): boolean
  /** Waits for the end of the stream. */
  end(): Promise<void>
  /** Disconnects. */
  close(): void
}

/** Opens an event stream and reads it in the background until the test ends. */
export async function openStream(t: Test, url: string, headers: OutgoingHttpHeaders = {}): Promise<OpenStream> {
  const disconnect = new AbortController()
  t.teardown(() => disconnect.abort())
  const response = await fetch(url, { headers: headers as Record<string, string>, signal: disconnect.signal })
  const blocks: Block[] = []
  let isEnded = false
  const read = async () => {
    let text = ''
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk, { stream: true })
      const blockTexts = text.replaceAll(/\r\n?/g, '\n').split('\n\n')
      text = blockTexts.pop() as string
      blocks.push(...blockTexts.map(parseBlock))
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
    ...{ blocks, events, isEnded: () => isEnded, close: () => disconnect.abort() },
    event: (matches) => until(() => events().find(matches)),
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
