/** The status codes with which the server closes a WebSocket (RFC 6455, section 7.4.1). */
export const closeCodes = { goingAway: 1001, unsupportedData: 1003, internalError: 1011 } as const
