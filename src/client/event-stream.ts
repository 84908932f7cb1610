/** A server-sent event (WHATWG HTML, section 9.2), or only a new reconnection time. */
export interface StreamEvent {
  name: string
  data: string
  /** When to reconnect after the stream has ended, in milliseconds. */
  retryMs: number | undefined
}

/** Makes a function that finds the events in the chunks of a stream. An event may span several chunks. */
export function createEventParser(): (chunk: Uint8Array | undefined) => StreamEvent[] {
  const decoder = new TextDecoder()
  let rest = ''
  return (chunk) => {
    const blocks = (rest + decoder.decode(chunk, { stream: true })).split('\n\n')
    rest = blocks.pop() as string
    return blocks.map(parseEvent)
  }
}

function parseEvent(block: string): StreamEvent {
  const event: StreamEvent = { name: '', data: '', retryMs: undefined }
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':')
    const [field, value] = [line.slice(0, colon), line.slice(colon + 1).trim()]
    if (field === 'event') event.name = value
    // The API puts the data of an event into one line.
    if (field === 'data') event.data = value
    if (field === 'retry') event.retryMs = Number(value)
  }
  return event
}
