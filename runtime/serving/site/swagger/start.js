// Nothing is asked of any other server: no validator, no fonts.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#ui",
  validatorUrl: "none",
  syntaxHighlight: false,
  tryItOutEnabled: true,
});
